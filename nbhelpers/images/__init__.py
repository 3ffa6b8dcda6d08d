"""Photos read right, pictures written with their recipe, and what is drawn from both.

    photos = images.read_many("../sample_images", 96)
    images.save(picture, "picture.png", recipe=recipe)

Besides the names below, three modules are for everybody: `figures` (matplotlib figures without pyplot), `overlays`
(maps in colour over photos), `smoothing` (blurs and denoising).
"""

from nbhelpers.images import figures, overlays, smoothing
from nbhelpers.images.decoding import decode, missing, opened, thumbnail
from nbhelpers.images.photos import (
    Photos,
    animate,
    files_in,
    from_pil,
    read,
    read_folder,
    read_many,
    read_recipe,
    replacing,
    resize,
    save,
)
from nbhelpers.images.sheets import font, tile, to_pil

__all__ = [
    "Photos",
    "animate",
    "decode",
    "figures",
    "files_in",
    "font",
    "from_pil",
    "missing",
    "opened",
    "overlays",
    "read",
    "read_folder",
    "read_many",
    "read_recipe",
    "replacing",
    "resize",
    "save",
    "smoothing",
    "thumbnail",
    "tile",
    "to_pil",
]
