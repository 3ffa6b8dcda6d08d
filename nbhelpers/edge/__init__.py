"""What comes from outside, looked at before it is used, and what goes out: paths, words for what is wrong, whole files.

    photo = edge.existing_file("photo.jpg")              # a pipe, a folder, a link in a circle are refused in words
    raise ValueError(f"not read: {edge.few(names)}")     # five names and how many more, not a thousand
    with edge.replacing("picture.png") as temporary: ... # whole or not at all
    for photo in edge.Bar(photos): ...                   # a progress bar that leaves no thread behind
    edge.Latest(work, "name").put(job)                   # work that follows a control: the newest job wins

The lowest room: every other may use it, and it brings nothing but the standard library (tqdm when a bar is wanted), so
that a misspelled name is refused before torch is there.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bars": ["Bar"],
        "companions": ["COMPANIONS", "companion", "copy_companions"],
        "latest": ["Latest"],
        "paths": ["existing_file", "existing_folder", "folder_to_write", "is_folder", "kind", "missing"],
        "ranges": ["in_range"],
        "reading": ["understood"],
        "words": ["close", "few", "short"],
        "writing": ["replacing", "synced", "to_json", "write_text"],
    },
)
