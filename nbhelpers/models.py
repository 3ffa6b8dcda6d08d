"""Networks by name, with their preprocessing inside.

Every picture in this package is `(B, 3, H, W)` float32 in [0, 1]. What a network was trained on besides that (its
normalisation) belongs to the network and is applied inside it, so a technique never asks which network it looks at.

Two small networks are bundled and load in milliseconds. Every torchvision classifier loads by its torchvision name,
through torchvision's own cache and download. A module of your own works everywhere a name does.
"""

import copy
import hashlib
import json
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from nbhelpers.layers import nearest
from nbhelpers.minivgg import MiniVGG

DEFAULT = "minivgg_robust"
FOLDER = Path(__file__).parent / "weights"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """A network together with what it needs to look at a picture in [0, 1].

    Layer names are those of the bare module `net` (`"block3.conv2"`, `"features.24"`); `""` is its output.

    Args:
        net: the bare module, pictures `(B, 3, H, W)` in, logits `(B, classes)` out.
        name: what to call it in titles and messages.
        classes: class names in the order of the logits, or None where they are not known.
        size: side of the pictures it is at home with, in pixels.
        mean: per colour, subtracted from the picture first.
        std: per colour, what the difference is divided by.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        classes: Sequence[str] | None = None,
        size: int = 224,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.classes = None if classes is None else list(classes)
        self.size = size
        self.training = net.training
        parameter = next(net.parameters(), None)
        device = None if parameter is None else parameter.device
        self.register_buffer("mean", torch.tensor(mean, device=device).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device=device).view(3, 1, 1), persistent=False)
        self._plain = all(value == 0 for value in mean) and all(value == 1 for value in std)

    def normalise(self, pictures: Tensor) -> Tensor:
        """The pictures as the bare module wants them, same shape."""
        return pictures if self._plain else (pictures - self.mean) / self.std

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits `(B, classes)` of pictures `(B, 3, H, W)` in [0, 1]."""
        return self.net(self.normalise(pictures))

    def extra_repr(self) -> str:
        known = "classes not named" if self.classes is None else f"{len(self.classes)} classes"
        return f"{self.name!r}, {self.size} pixels, {known}"


def load(name: str = DEFAULT, weights: str | None = "DEFAULT", device: str | torch.device = "auto") -> Network:
    """A network by name, in evaluation mode.

    Args:
        name: `"minivgg_robust"`, `"minivgg"` (both bundled) or any torchvision classifier (`"vgg16"`).
        weights: `"DEFAULT"`; one of torchvision's versions by name (`"IMAGENET1K_V1"`); or None for a random network,
            the same one every time, as a control. `"DEFAULT"` is torchvision's newest version; where only an older
            one has been downloaded already, that one is used and a warning says so.
        device: `"auto"` (a GPU where there is one), or a torch device.

    Returns:
        The network, normalisation inside.

    Raises:
        ValueError: unknown network or weights; the nearest names are offered.
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.
        RuntimeError: the weights file is damaged.
    """
    if name in bundled():
        network = _load_bundled(name, weights)
    elif name in _torchvision_names():
        network = _load_torchvision(name, weights)
    else:
        raise ValueError(f"no network is called {name!r}. {nearest(name, bundled() + _torchvision_names())}")
    return network.eval().to(_device(device))


def as_network(network: str | nn.Module) -> Network:
    """The network itself, whichever way it was named.

    Args:
        network: a name for `load`; a `Network`, returned as it is; or your own module, which takes pictures
            `(B, 3, H, W)` in [0, 1]. Nothing is added to it. For another picture size than 224, class names or
            a normalisation, wrap it yourself: `Network(module, "mine", size=64)`.

    Raises:
        TypeError: neither a name nor a module.
    """
    if isinstance(network, Network):
        return network
    if isinstance(network, nn.Module):
        return Network(network, type(network).__name__)
    if isinstance(network, str):
        return load(network)
    raise TypeError(f"expected a network's name or an nn.Module, got {type(network).__name__}: {network!r:.80}")


def bundled() -> list[str]:
    """Names of the networks that come with the package, the default one first."""
    return sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda name: (name != DEFAULT, name))


def randomised(network: str | nn.Module, seed: int = 0) -> Network:
    """A copy with nothing learned left in it, for controls.

    Convolutions and linear layers are drawn anew so that a ReLU network neither fades nor explodes (He et al. 2015);
    with torch's own default the picture would drown in the biases after a few layers, and a control that sees
    nothing proves nothing. Other layers return to their initial state. A parameter that no layer knows how to draw
    (a class token, a layer scale) keeps its values in shuffled order.

    Args:
        network: left as it is.
        seed: the same seed gives the same copy, on any device; the global random state is not touched.

    Returns:
        A network of the same architecture, size, normalisation and class names, on the same device.

    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps.
    """
    network = as_network(network)
    with _drawn_from(seed):
        copied = copy.deepcopy(network).cpu()
        for module in copied.net.modules():
            _reinitialise(module)
    copied.name = f"{network.name} (random)"
    return copied.to(network.mean.device)


@torch.no_grad()
def _reinitialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if reset is not None:
        reset()
        return
    for parameter in module.parameters(recurse=False):
        shuffled = parameter.flatten()[torch.randperm(parameter.numel())]
        parameter.copy_(shuffled.view_as(parameter))


def _load_bundled(name: str, weights: str | None) -> Network:
    if weights not in ("DEFAULT", None):
        raise ValueError(f"{name} has one set of weights: weights='DEFAULT', or None for random ones; got {weights!r}")
    card = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    with torch.device("meta"):  # no time spent on drawing weights that are replaced at once
        net = MiniVGG(**card["architecture"], classes=len(card["classes"]))
    net.load_state_dict(_read_bundled(FOLDER / f"{name}.safetensors", card["sha256"]), assign=True)
    network = Network(net, name, card["classes"], card["size"], IMAGENET_MEAN, IMAGENET_STD)
    if weights is None:
        network = randomised(network)
        network.classes = None
    return network


def _read_bundled(path: Path, sha256: str) -> dict[str, Tensor]:
    advice = "install nbhelpers again, or restore the file with `git checkout`"
    if not path.is_file():
        raise FileNotFoundError(f"the bundled weights {path} are missing: {advice}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(f"the bundled weights {path} are damaged (their checksum differs): {advice}")
    # stored in half precision to keep the package small
    return {key: tensor.float() for key, tensor in safetensors.torch.load(content).items()}


def _load_torchvision(name: str, weights: str | None) -> Network:
    from torchvision.models import get_model, get_model_weights

    versions = get_model_weights(name)
    # The auxiliary heads only help training; torchvision loads their weights and then drops them.
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if weights is None:
        if options:
            options["init_weights"] = True
        with _drawn_from(0):
            net = get_model(name, weights=None, **options)
        version, classes, called = versions.DEFAULT, None, f"{name} (random)"
    else:
        version = _version(name, versions, weights)
        net = _fetch(name, version, options)
        classes, called = version.meta["categories"], name
    # GoogLeNet and Inception undo this normalisation themselves (`transform_input`): it is theirs as well.
    preset = version.transforms()
    return Network(net, called, classes, preset.crop_size[0], preset.mean, preset.std)


def _version(name: str, versions: type, weights: str):
    """The member of torchvision's enumeration that was asked for."""
    if weights != "DEFAULT":
        if weights not in versions.__members__:
            offered = ", ".join(["DEFAULT", *(version.name for version in versions)])
            raise ValueError(f"{name} has no weights called {weights!r}; it has {offered}, or None for random ones")
        return versions[weights]
    default = versions.DEFAULT
    if not _cached(default).is_file():
        for other in reversed(versions):
            if _cached(other).is_file():
                warnings.warn(
                    f"{name}: using {other.name}, which is on this machine already; torchvision's newest version is "
                    f"{default.name}: ask for weights={default.name!r} to download it",
                    stacklevel=4,
                )
                return other
    return default


def _fetch(name: str, version, options: dict) -> nn.Module:
    """torchvision's network with these weights, from its cache or downloaded into it."""
    from torchvision.models import get_model

    path = _cached(version)
    present = path.is_file()
    try:
        with _patience(seconds=30):
            return get_model(name, weights=version, **options)
    except Exception as error:
        if present or path.is_file():
            raise RuntimeError(
                f"the weights of {name} in {path} are damaged ({_first_line(error)}): delete that file and load again"
            ) from error
        if isinstance(error, OSError):
            raise FileNotFoundError(
                f"the weights of {name} are not on this machine and could not be downloaded ({_first_line(error)}). "
                f"Connect and try again, or put {version.url} into {path.parent} by hand. "
                f"load({DEFAULT!r}) needs no download, and weights=None gives {name} with random weights"
            ) from error
        raise RuntimeError(f"the download of {version.url} went wrong ({_first_line(error)}): try again") from error


def _cached(version) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(version.url).name


def _torchvision_names() -> list[str]:
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Torch's processor randomness from this seed, and the global state put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A connection that stays silent is given up: torch's downloads would wait for minutes, or for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
