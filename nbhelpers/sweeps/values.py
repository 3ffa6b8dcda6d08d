"""What the values in a sweep's YAML file mean: lists, ranges, files, amounts of memory."""

import glob
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from nbhelpers import edge

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_CHUNKS = re.compile(r"(.*?)(?:\s+in chunks of\s+(\d+)\s*)?", re.DOTALL)


class Loader(yaml.SafeLoader):
    """YAML 1.2 (its core schema, section 10.3.2), and a key that stands twice is a mistake.

    `no`, `12:30` and `2024-01-31` are texts, `010` is ten, `1e-3` a number; PyYAML reads YAML 1.1, where they are not.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"(?:null|Null|NULL|~|)", ["n", "N", "~", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))", "-+."),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(_TAG + _name, re.compile(f"{_pattern}$"), list(_first))
Loader.add_constructor(_TAG + "int", lambda loader, node: int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10))


def in_bytes(amount: Any) -> int:
    """Bytes in `4 GB` or `500 MB`.

    Raises:
        ValueError: it is no amount of memory, has no unit, or is less than a byte.
    """
    # pydantic's ByteSize takes what a number begins with for the whole: `4,5 GB` for 4 bytes
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\w+)", str(amount).strip())
    found = int(float(match[1]) * _UNITS.get(match[2].upper(), 0)) if match else 0
    if not found:
        raise ValueError(f"memory is a number with a unit, as in `4 GB`, got {amount!r}")
    return found


def spelled_out(name: str, given: Any, folder: Path) -> list[Any]:
    """What a parameter of the grid runs through.

    Args:
        name: of the parameter, for the messages.
        given: a list, a range such as `0..511 step 16` or `0..511 in chunks of 16`, or `{files: pattern}`. A range that
            stands in a list stands for its values.
        folder: where a pattern without an address (`s3://...`) starts.

    Raises:
        ValueError: it is none of these, or there is nothing in it.
    """
    if isinstance(given, list):
        values = []
        for each in given:
            found = _range(name, each)
            values += [each] if found is None else found
    elif (values := _range(name, given)) is not None:
        pass
    elif isinstance(given, dict) and set(given) == {"files"} and isinstance(given["files"], str):
        values = _files(name, given["files"], folder)
    else:
        raise ValueError(
            f"{name}: {given!r} is neither a list [a, b] nor a range `0..511 step 16` or `0..511 in chunks of 16` "
            "nor {files: photos/*.jpg}"
        )
    if not values:
        raise ValueError(f"{name}: the list of values is empty")
    return values


def _range(name: str, given: Any) -> list[Any] | None:
    text, chunk = _CHUNKS.fullmatch(given).groups() if isinstance(given, str) else (given, None)
    try:
        numbers = edge.in_range(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if numbers is None or chunk is None:
        return numbers
    if int(chunk) < 1:
        raise ValueError(f"{name}: {given!r}: a chunk holds at least one value")
    return [numbers[start : start + int(chunk)] for start in range(0, len(numbers), int(chunk))]


def _files(name: str, pattern: str, folder: Path) -> list[str]:
    if "://" in pattern:
        import fsspec

        try:
            files, _ = fsspec.core.url_to_fs(pattern)
            found = sorted(files.unstrip_protocol(path) for path in files.glob(pattern))
        except (ImportError, ValueError, OSError) as error:
            raise ValueError(f"{name}: {pattern} cannot be listed: {error}") from error
    else:
        found = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
    if not found:
        raise ValueError(f"{name}: no file matches {pattern!r}, which is relative to the notebook's folder {folder}")
    return found
