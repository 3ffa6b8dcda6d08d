"""Photos read right, pictures written with their recipe, and what is drawn from both.

    photos = images.read_many("../sample_images", 96)
    images.save(picture, "picture.png", recipe=recipe)

Besides the names below, four modules are for everybody: `figures` (matplotlib figures without pyplot), `overlays`
(maps in colour over photos), `smoothing` (blurs and denoising), `recipe_text` (what a document inside a PNG may be).
"""

from nbhelpers.images import figures, overlays, recipe_text, smoothing
from nbhelpers.images.decoding import decode, decode_bytes, endings, opened, thumbnail
from nbhelpers.images.naturalness import Naturalness, naturalness, naturalness_of_each
from nbhelpers.images.photos import (
    SYSTEMS,
    Fit,
    Photos,
    Placement,
    alike,
    animate,
    files_in,
    fitted,
    from_pil,
    in_order,
    joined,
    listed,
    placement,
    read,
    read_batches,
    read_folder,
    read_many,
    read_recipe,
    resize,
    save,
)
from nbhelpers.images.sheets import font, framed, tile, to_pil

__all__ = [
    "SYSTEMS",
    "Fit",
    "Naturalness",
    "Photos",
    "Placement",
    "alike",
    "animate",
    "decode",
    "decode_bytes",
    "endings",
    "figures",
    "files_in",
    "fitted",
    "font",
    "framed",
    "from_pil",
    "in_order",
    "joined",
    "listed",
    "naturalness",
    "naturalness_of_each",
    "opened",
    "overlays",
    "placement",
    "read",
    "read_batches",
    "read_folder",
    "read_many",
    "read_recipe",
    "recipe_text",
    "resize",
    "save",
    "smoothing",
    "thumbnail",
    "tile",
    "to_pil",
]
