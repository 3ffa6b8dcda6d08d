"""`nbhelpers gallery FOLDER` and `nbhelpers replay PICTURE`."""

import click

from nbhelpers.gallery import page, replaying


@click.command(help="Write the page that shows a folder of pictures, a sweep's or any other: FOLDER/index.html.")
@click.argument("folder")
def gallery(folder: str) -> None:
    try:
        click.echo(page.write(folder))
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error


@click.command(help="Make PICTURE again from the recipe inside it, and say whether the pixels match.")
@click.argument("picture")
@click.option("--addresses", is_flag=True, help="Fetch photos from addresses that the recipe names.")
@click.pass_context
def replay(context: click.Context, picture: str, addresses: bool) -> None:
    try:
        replayed = replaying.replay(picture, addresses=addresses)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(replayed.line())
    context.exit(0 if replayed.same else 1)
