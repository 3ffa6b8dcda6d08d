"""Look inside a convolutional network: one technique per notebook, one idea per module."""
