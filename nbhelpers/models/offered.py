"""Networks of the reader's own that can be had by name, as in the list of networks in a notebook."""

from torch import nn

from nbhelpers.models.network import Network
from nbhelpers.models.sources import bundled, torchvision_names

_offered: dict[str, Network] = {}


def offer(network: nn.Module, name: str | None = None) -> Network:
    """Let a module of your own be found under a name, by `load` and in the list of networks.

    Args:
        network: a `Network`, or a module that takes pictures `(B, 3, H, W)` in [0, 1]. It is kept, not copied.
        name: what it is called; without one, its own name. The same name again replaces what it stood for.

    Returns:
        The network, as it was offered.

    Raises:
        ValueError: the name is empty, or that of a bundled or a torchvision network.
    """
    made = network if isinstance(network, Network) else Network(network)
    name = made.name if name is None else name
    if not name or name in bundled() or name in torchvision_names():
        raise ValueError(f"{name!r} is no name for a network of your own: give another, offer(network, 'mine')")
    _offered[name] = made
    return made


def offered() -> dict[str, Network]:
    """What was offered, by name."""
    return dict(_offered)


def withdraw(name: str) -> None:
    """Forget what was offered under a name."""
    _offered.pop(name, None)
