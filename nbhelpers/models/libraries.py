"""Networks of other libraries by name, `timm/...` and `hf/...`; a library is imported only when it is asked for."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nbhelpers.models.examination import first_line
from nbhelpers.models.network import Network, drawn_from

LIBRARIES = {"timm": "timm", "hf": "transformers"}


def of_a_library(name: str) -> bool:
    """Whether a name is one of another library: `timm/resnet18.a1_in1k`, `hf/microsoft/resnet-18`."""
    return name.partition("/")[0] in LIBRARIES and "/" in name


def from_library(name: str, weights: str | None) -> Network:
    """A network of timm or Hugging Face with its normalisation, size and class names; None for a random one.

    Raises:
        ImportError: the library is not installed (says the pip line). ValueError: it knows no such network.
        FileNotFoundError: the weights are not on this machine and could not be downloaded.
    """
    if weights not in ("DEFAULT", None):
        raise ValueError(f"{name} has one set of weights: weights='DEFAULT', or None for random ones; got {weights!r}")
    source, _, own = name.partition("/")
    network = {"timm": _from_timm, "hf": _from_hugging_face}[source](own, name, weights is not None)
    if weights is None:
        network.classes = None
    return network


def _from_timm(own: str, name: str, pretrained: bool) -> Network:
    timm = _imported("timm")
    architecture = own.partition(".")[0]
    if not timm.is_model(architecture):
        near = timm.list_models(f"*{architecture[:8]}*")[:4]
        raise ValueError(f"timm has no network {own!r}. " + (f"Nearest: {', '.join(near)}" if near else ""))
    with drawn_from(0):
        net = _loaded(lambda: timm.create_model(own, pretrained=pretrained), name)
    about = timm.data.resolve_data_config(model=net)
    subset = timm.data.infer_imagenet_subset(net)
    classes = timm.data.ImageNetInfo(subset).label_descriptions() if subset else None
    channels, height, width = about["input_size"]
    size = height if height == width else (height, width)
    return Network(net, name, classes, size, about["mean"], about["std"], channels)


def _from_hugging_face(own: str, name: str, pretrained: bool) -> Network:
    transformers = _imported("hf")
    config = _loaded(lambda: transformers.AutoConfig.from_pretrained(own), name)
    auto = transformers.AutoModelForImageClassification
    with drawn_from(0):
        net = _loaded(lambda: auto.from_pretrained(own) if pretrained else auto.from_config(config), name)
    try:
        seen = transformers.AutoImageProcessor.from_pretrained(own)
    except Exception:  # a folder with weights alone: the library raises whatever it likes
        seen = None
    size = _side(getattr(seen, "crop_size", None)) or _side(getattr(seen, "size", None)) or 224
    labels = getattr(config, "id2label", None) or {}
    classes = [labels[number] for number in sorted(labels)] if labels else None
    mean, std = getattr(seen, "image_mean", None), getattr(seen, "image_std", None)
    return Network(net, name, classes, size, mean, std, getattr(config, "num_channels", None))


def _side(size: Any) -> int | None:
    if isinstance(size, int) or size is None:
        return size
    found = {key: size[key] for key in ("height", "shortest_edge", "width") if size.get(key)}
    return next(iter(found.values()), None)


def _imported(source: str) -> ModuleType:
    library = LIBRARIES[source]
    try:
        return __import__(library)
    except ImportError as error:
        raise ImportError(
            f"a network of {library} needs {library}, which cannot be imported ({first_line(error)}): "
            f"pip install {library}"
        ) from error


def _loaded(load: Any, name: str) -> Any:
    try:
        return load()
    except Exception as error:
        if isinstance(error, OSError) or "ConnectionError" in type(error).__name__ or "HTTP" in type(error).__name__:
            raise FileNotFoundError(
                f"{name} is not on this machine and could not be downloaded ({first_line(error)}): connect, try again"
            ) from error
        raise
