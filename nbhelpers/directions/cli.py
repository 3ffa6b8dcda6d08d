"""`nbhelpers atlas NETWORK LAYER`."""

import shutil
from pathlib import Path

import click

from nbhelpers import edge, models
from nbhelpers.directions import activation_atlas, atlas_page
from nbhelpers.directions.activation_atlas import ActivationAtlas, Atlas


@click.command(help="Draw the activation atlas of a layer: a page to walk through, and a poster.")
@click.argument("network", default="minivgg_robust")
@click.argument("layer", default="block4.relu1")
@click.option("--drawn", default="", help="layer to draw in; for block4.relu1, block4.conv1, which is the default")
@click.option("--photos", default="sample_images", show_default=True, help="folder of photos, or a data folder")
@click.option("--cells", default=16, show_default=True, help="squares along each side")
@click.option("--coarser", default=8, show_default=True, help="squares along each side from afar; 0 for none")
@click.option("--size", default=0, help="side of the photos in pixels; the network's own unless given")
@click.option(
    "--picture-size", default=0, help="side of a first, smaller picture; half of the photos', 64 to 128, unless given"
)
@click.option("--fewest", default=6, show_default=True, help="places that a square needs")
@click.option("--cuts", default=20, show_default=True, help="random squares from each photo of a folder")
@click.option("--places", default=1, show_default=True, help="places of each picture")
@click.option("--limit", default=5000, show_default=True, help="most pictures to look at")
@click.option("--steps", default=20, show_default=True, help="steps of Adam a round")
@click.option("--rounds", default=2, show_default=True, help="sizes of a picture, from small to large")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--names", type=click.Choice(["answers", "labels"]), default="answers", show_default=True)
@click.option("--whitening", type=click.Choice(["covariance", "none"]), default="covariance", show_default=True)
@click.option("--label", default="", help="a class: only places that speak for it")
@click.option("--beside", default="", help="a second class, mapped beside the first on the same plane")
@click.option(
    "--and", "other", default="", metavar="NETWORK[:LAYER]", help="the same places in another network, mapped beside it"
)
@click.option("--layout", type=click.Choice(["t-sne", "umap"]), default="t-sne", show_default=True)
@click.option("--poster", default=4000, show_default=True, help="side of the poster's map in pixels")
@click.option("--no-photos", is_flag=True, help="leave the photos out of the page, so that it may be published")
@click.option("--results", default="results", show_default=True, help="the page goes to RESULTS/atlas/NETWORK-LAYER")
def atlas(
    network: str, layer: str, drawn: str, photos: str, coarser: int, size: int, picture_size: int, poster: int,
    no_photos: bool, results: str, **others: int | str,
) -> None:  # fmt: skip
    try:
        model = models.load(network)
        size = size or min(models.sides(model.size))
        recipe = ActivationAtlas(
            network=network,
            layer=layer,
            drawn=drawn or activation_atlas.before_relu(model, layer),
            photos=photos,
            size=size,
            picture_size=picture_size or min(max(64, size // 2), 128),
            width=poster,
            **others,
        )
        target = edge.folder_to_write(results) / "atlas"
        unfinished = target / "unfinished"
        fine = activation_atlas.survey(recipe, model, unfinished)
        click.echo("\n".join(fine.report()))
        levels = [activation_atlas.with_cells(fine, coarser, model)] if 1 < coarser < recipe.cells else []
        drawn_levels = [_drawn(each, model, unfinished) for each in [*levels, fine]]
        page = atlas_page.write(drawn_levels, target, photos=not no_photos)
        shutil.rmtree(unfinished)
        click.echo(page)
        click.echo(activation_atlas.save(drawn_levels[-1], page.parent))
    except (ValueError, KeyError, OSError) as error:
        raise click.UsageError(str(error.args[0] if isinstance(error, KeyError) else error)) from error


def _drawn(atlas: Atlas, network: models.Network, kept: Path) -> Atlas:
    """All squares drawn, under a bar; what a stopped run has looked at and drawn is in the folder."""
    with edge.Bar(total=atlas.total, desc="drawing", unit="picture", leave=False) as bar:
        for atlas in activation_atlas.climb(atlas, network, kept):  # noqa: B020
            bar.update(atlas.index - bar.n)
    return atlas
