"""Look inside a convolutional network: one technique per notebook, one idea per module."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("nbhelpers")
except PackageNotFoundError:  # used from a folder that was never installed
    __version__ = "0"
