"""What comes from outside, looked at before it is used, and what goes out: paths, words for what is wrong, whole files.

    photo = edge.existing_file("photo.jpg")              # a pipe, a folder, a link in a circle are refused in words
    raise ValueError(f"not read: {edge.few(names)}")     # five names and how many more, not a thousand
    with edge.replacing("picture.png") as temporary: ... # whole or not at all

The lowest room: every other may use it, and it brings nothing but the standard library, so that a misspelled name is
refused before torch is there.
"""

from nbhelpers.edge.paths import existing_file, existing_folder, folder_to_write, is_folder, kind, missing
from nbhelpers.edge.words import close, few, short
from nbhelpers.edge.writing import replacing, write_text

__all__ = [
    "close",
    "existing_file",
    "existing_folder",
    "few",
    "folder_to_write",
    "is_folder",
    "kind",
    "missing",
    "replacing",
    "short",
    "write_text",
]
