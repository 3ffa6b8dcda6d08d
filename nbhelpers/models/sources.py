"""Where networks come from: the folder of bundled ones, and torchvision with its own cache and download."""

import hashlib
import json
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from nbhelpers.models.examination import first_line
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.models.network import Network, drawn_from, randomised_copy
from nbhelpers.models.own_files import fill

DEFAULT = "minivgg_robust"
FOLDER = Path(__file__).parent / "weights"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def bundled() -> list[str]:
    """Names of the networks that come with the package, the default one first."""
    return sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda name: (name != DEFAULT, name))


def from_bundled(name: str, weights: str | None) -> Network:
    """A bundled network, its file checked against the checksum in its card; None for a random one."""
    if weights not in ("DEFAULT", None):
        raise ValueError(f"{name} has one set of weights: weights='DEFAULT', or None for random ones; got {weights!r}")
    card = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    with torch.device("meta"):  # no time spent on drawing weights that are replaced at once
        net = MiniVGG(**card["architecture"], classes=len(card["classes"]))
    net.load_state_dict(_read_bundled(FOLDER / f"{name}.safetensors", card["sha256"]), assign=True)
    network = Network(net, name, card["classes"], card["size"], IMAGENET_MEAN, IMAGENET_STD)
    if weights is None:
        network = randomised_copy(network, 0)
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


def at_hand(name: str) -> bool:
    """Whether `load` finds a network's weights on this machine, without a download."""
    from torchvision.models import get_model_weights

    return name in bundled() or (
        name in torchvision_names() and any(_cached(version).is_file() for version in get_model_weights(name))
    )


def download_size(name: str) -> float | None:
    """Megabytes that torchvision says it downloads for a classifier's newest weights; None if it does not say."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT.meta.get("_file_size")


def imagenet_classes() -> list[str]:
    """The names of ImageNet's 1,000 classes in their order, as torchvision gives them."""
    from torchvision.models import get_model_weights

    return list(get_model_weights("resnet50").DEFAULT.meta["categories"])


def from_torchvision(name: str, weights: str | None) -> Network:
    """A torchvision classifier with the preprocessing of its weights; None for a random one."""
    from torchvision.models import get_model, get_model_weights

    versions = get_model_weights(name)
    if weights is None:
        options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        with drawn_from(0):
            net = get_model(name, weights=None, **options)
        version, classes, called = versions.DEFAULT, None, f"{name} (random)"
    else:
        version = _version(name, versions, weights)
        net = _fetch(name, version)
        if name == "inception_v3":  # only training uses the auxiliary head; GoogLeNet has dropped its own already
            net.aux_logits, net.AuxLogits = False, None
        classes, called = version.meta["categories"], name
    # GoogLeNet and Inception undo this normalisation themselves (`transform_input`): it is theirs as well.
    preset = version.transforms()
    return Network(net, called, classes, preset.crop_size[0], preset.mean, preset.std)


def from_own_file(name: str, path: str | Path) -> Network:
    """A bundled or torchvision network with the weights of a file; class names are not known."""
    from torchvision.models import get_model, get_model_weights

    if name in bundled():
        card = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        size, mean, std = card["size"], IMAGENET_MEAN, IMAGENET_STD

        def build(classes: int | None) -> nn.Module:
            return MiniVGG(**card["architecture"], classes=classes or len(card["classes"]))
    else:
        preset = get_model_weights(name).DEFAULT.transforms()
        size, mean, std = preset.crop_size[0], preset.mean, preset.std
        options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}

        def build(classes: int | None) -> nn.Module:
            return get_model(name, weights=None, **options, **({} if classes is None else {"num_classes": classes}))

    with drawn_from(0):
        net = fill(build, name, path)
    return Network(net, f"{name} ({Path(path).name})", None, size, mean, std)


def _version(name: str, versions: type[Enum], weights: str) -> Enum:
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


def _fetch(name: str, version: Enum) -> nn.Module:
    """torchvision's network with these weights, from its cache or downloaded into it."""
    from torchvision.models import get_model

    path = _cached(version)
    present = path.is_file()
    try:
        with _patience(seconds=30):
            return get_model(name, weights=version)
    except Exception as error:
        if present or path.is_file():
            raise RuntimeError(
                f"the weights of {name} in {path} are damaged ({first_line(error)}): delete that file and load again"
            ) from error
        if isinstance(error, OSError):
            raise FileNotFoundError(
                f"the weights of {name} are not on this machine and could not be downloaded ({first_line(error)}). "
                f"Connect and try again, or put {version.url} into {path.parent} by hand. "
                f"load({DEFAULT!r}) needs no download, and weights=None gives {name} with random weights"
            ) from error
        if isinstance(error, RuntimeError):  # the checksum in the file's name
            raise RuntimeError(f"the download of {version.url} went wrong ({first_line(error)}): try again") from error
        raise


def _cached(version: Enum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(version.url).name


def torchvision_names() -> list[str]:
    """Names of all classifiers that torchvision has."""
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A connection that stays silent is given up: torch's downloads would wait for minutes, or for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
