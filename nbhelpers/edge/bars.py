"""Progress bars that leave nothing behind."""

from tqdm import tqdm


class Bar(tqdm):
    """tqdm's bar without its monitor, a thread that outlives an interrupted bar and the work it told of."""

    monitor_interval = 0
