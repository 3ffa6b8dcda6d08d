"""Progress bars that leave nothing behind."""

from typing import Any

from tqdm import tqdm

PATIENCE = 3  # seconds; what a notebook keeps of a bar is an empty line in red, and short work needs none


class Bar(tqdm):
    """tqdm's bar, shown once the work has taken a few seconds.

    It is without its monitor, a thread that outlives an interrupted bar and the work it told of.
    """

    monitor_interval = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"delay": PATIENCE, **options})
