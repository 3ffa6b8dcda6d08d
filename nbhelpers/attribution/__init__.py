"""What a logit owes to pixels or to a layer, and what such maps must pass.

Every module here is for everybody, and loaded when it is asked for:

    from nbhelpers.attribution import cams

- `gradients`: from a class logit back to the pixels or a layer, in batches; everything below stands on it;
- `pixel_maps`: saliency five ways;
- `cams`: class activation maps, six ways;
- `localisation`: from a map to a box; `boxes`: boxes that people drew, and the pointing game;
- `faithfulness`: deletion and insertion; `randomisation`: a network that forgets; `faithfulness_pictures`: both drawn;
- `explanations`: photos with their maps, batch by batch, for every technique that draws maps;
- `contest`: several methods, and guesses, judged side by side.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "gradients",
        "pixel_maps",
        "cams",
        "localisation",
        "boxes",
        "faithfulness",
        "randomisation",
        "faithfulness_pictures",
        "explanations",
        "contest",
    ],
)
