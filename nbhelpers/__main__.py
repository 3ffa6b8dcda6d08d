"""The package's command line: `python -m nbhelpers`. One notebook is run by `python -m nbhelpers.batch`."""

import click

from nbhelpers.sweeps.cli import sweep


@click.group(help="Look inside convolutional networks from the command line.")
def main() -> None:
    pass


@main.command(help="List the layers of NETWORK: names, channels, sizes, receptive fields.")
@click.argument("network")
def layers(network: str) -> None:
    from nbhelpers import models

    try:
        click.echo(models.layers(models.load(network, weights=None)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@main.command(help="Make PICTURE again from the recipe inside it, and say whether the pixels match.")
@click.argument("picture", type=click.Path(dir_okay=False))
@click.pass_context
def replay(context: click.Context, picture: str) -> None:
    from nbhelpers.gallery import replay

    try:
        replayed = replay(picture)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(replayed.line())
    context.exit(0 if replayed.same else 1)


@main.command(help="Write the page that shows a sweep's results, FOLDER/index.html.")
@click.argument("folder", type=click.Path(file_okay=False))
def gallery(folder: str) -> None:
    from nbhelpers import gallery

    try:
        click.echo(gallery.write(folder))
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


main.add_command(sweep)

if __name__ == "__main__":
    main(prog_name="python -m nbhelpers")
