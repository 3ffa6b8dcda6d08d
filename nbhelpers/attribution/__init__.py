"""What a logit owes to pixels or to a layer, and what such maps must pass.

Every module here is for everybody, and loads only what it needs:

    from nbhelpers.attribution import cams

- `gradients`: from a class logit back to the pixels or a layer, in batches; everything below stands on it;
- `pixel_maps`: saliency five ways;
- `cams`: class activation maps, six ways;
- `localisation`: from a map to a box; `boxes`: boxes that people drew, and the pointing game;
- `faithfulness`: deletion and insertion; `randomisation`: a network that forgets; `faithfulness_pictures`: both drawn;
- `contest`: several methods, and guesses, judged side by side.
"""

__all__ = [
    "boxes",
    "cams",
    "contest",
    "faithfulness",
    "faithfulness_pictures",
    "gradients",
    "localisation",
    "pixel_maps",
    "randomisation",
]
