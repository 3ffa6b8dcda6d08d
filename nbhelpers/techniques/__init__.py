"""One module per technique, each readable on its own."""
