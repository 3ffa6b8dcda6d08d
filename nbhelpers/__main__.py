"""The command line, `nbhelpers` or `python -m nbhelpers`: a room's commands are in its `cli` module."""

import sys
from importlib import import_module
from typing import Any

import click

COMMANDS = {
    "run": ("notebooks", "Run notebooks: all of a folder, or one with other parameters."),
    "notebooks": ("notebooks", "Copy the notebooks and their photos into a folder, to work on."),
    "student": ("notebooks", "Copy the notebooks for students, without the solutions."),
    "sweep": ("sweeps", "Run a notebook with all the parameters that a YAML file asks for."),
    "gallery": ("gallery", "Write the page that shows a folder of pictures, FOLDER/index.html."),
    "replay": ("gallery", "Make a picture again from the recipe inside it; do the pixels match?"),
    "atlas": ("directions", "Draw the activation atlas of a layer: a page to walk through, and a poster."),
    "microscope": ("microscope", "Every layer and channel of a network as a site of pages."),
    "layers": ("models", "List the layers of a network: names, channels, sizes, receptive fields."),
    "train": ("training", "Train a bundled network from a folder of pictures."),
    "explore": ("controls", "Explore what a network sees in a photo, as an app in the browser."),
}
"""Each command's room, and what the list of commands says of it."""


class _Rooms(click.Group):
    """Loads a command when it is asked for: most of them bring torch, seconds that a misspelled one need not wait for.

    Source: click's documentation, "Lazily Loading Subcommands".
    """

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(import_module(f"nbhelpers.{COMMANDS[name][0]}.cli"), name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError as error:
            error.message += f" There are: {', '.join(COMMANDS)}."
            raise

    def invoke(self, context: click.Context) -> Any:
        """As click's, and who reads no further (`| head`) is no fault of a disk, whatever a command says of it."""
        try:
            return super().invoke(context)
        except click.ClickException as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise error.__cause__ from None  # click ends quietly
            raise

    def main(self, *arguments: Any, **options: Any) -> Any:
        """As click's, and an interrupt while a command is still being loaded is no traceback."""
        try:
            return super().main(*arguments, **options)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


@click.group(cls=_Rooms, help="Look inside convolutional networks from the command line.")
@click.version_option(package_name="nbhelpers")
def main() -> None:
    pass


if __name__ == "__main__":
    main(prog_name="nbhelpers")
