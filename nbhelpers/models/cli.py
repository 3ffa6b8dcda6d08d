"""`nbhelpers layers NETWORK`: the names to put into a recipe or a grid."""

import click

from nbhelpers import models


@click.command(help="List the layers of NETWORK: names, channels, sizes, receptive fields.")
@click.argument("network")
def layers(network: str) -> None:
    try:
        click.echo(models.layers(models.load(network, weights=None)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
