"""Paths from outside: is there a file, or something that only looks like one?

To read a pipe is to wait for somebody who may never write, and the system's own words ("Errno 36", "embedded null
byte") are not a reader's. So every path is looked at here first, and refused with the reason and the way out.
"""

import errno
import os
import stat
import tempfile
from pathlib import Path

from nbhelpers.edge.words import close, few, short

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def kind(path: str | os.PathLike) -> str:
    """What is at a path, links followed: `file`, `folder`, `pipe`, `socket` or `device`.

    Args:
        path: a leading `~` is the home folder.

    Raises:
        FileNotFoundError: nothing is there, or no file can have this name. The nearest names are offered.
        ValueError: the path leads in a circle, or may not be looked at.
    """
    path = _expanded(path)
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "device")
    except ValueError as error:  # a NUL character, or one that is half a character
        raise FileNotFoundError(f"no such file: no file can have the name {short(repr(str(path)))}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            length = f"{len(str(path)):,} characters"
            raise FileNotFoundError(f"no such file: {short(path)} is too long for a name ({length})") from error
        if error.errno == errno.ELOOP:
            raise ValueError(f"{short(path)} is a link that leads in a circle; name the file itself") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileNotFoundError(missing(path)) from error
        raise ValueError(f"{short(path)} cannot be looked at ({error.strerror}); is its folder yours?") from error


def is_folder(path: str | os.PathLike) -> bool:
    """Whether a folder is there; not so where nothing is, or could be, and for an address.

    Whoever then reads it as a file says what is wrong.
    """
    try:
        return kind(path) == "folder"
    except (ValueError, FileNotFoundError):
        return False


def existing_file(path: str | os.PathLike) -> Path:
    """The path of a regular file, its `~` resolved.

    Raises:
        FileNotFoundError, ValueError: as `kind` says; or it is a folder, a pipe, a socket or a device.
    """
    found = kind(path)
    if found != "file":
        way_out = "name a file in it" if found == "folder" else "save what comes out of it first, and name that file"
        raise ValueError(f"{short(path)} is a {found}, expected a file; {way_out}")
    return _expanded(path)


def existing_folder(path: str | os.PathLike) -> Path:
    """The path of a folder, its `~` resolved.

    Raises:
        FileNotFoundError, ValueError: as `kind` says; or it is no folder.
    """
    found = kind(path)
    if found != "folder":
        raise ValueError(f"{short(path)} is a {found}, expected a folder")
    return _expanded(path)


def folder_to_write(path: str | os.PathLike) -> Path:
    """The path of a folder that takes files, made if it is not there; its `~` resolved.

    Raises:
        ValueError: a file lies where the folder should, or nothing may be written there.
    """
    path = _expanded(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, ValueError) as error:
        in_the_way = [each for each in (path, *path.parents) if os.path.exists(each) and not os.path.isdir(each)]
        if in_the_way:
            raise ValueError(f"{short(in_the_way[0])} is no folder, and results cannot lie in it") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"the folder {short(path)} cannot be written to ({reason})") from error


def missing(path: Path) -> str:
    """What to say about a path where nothing is: the nearest names in its folder, or what stands in the way."""
    if path.is_symlink():
        return f"no such file: {short(path)} is a link to {short(os.readlink(path))}, which is not there"
    file = next((each for each in path.parents if each.is_file()), None)
    if file:
        return f"no such file: {short(path)}; {short(file)} is a file, not a folder"
    if not path.parent.is_dir():
        return f"no such file: {short(path)}; there is no folder {short(path.parent)} either (looked from {Path.cwd()})"
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    except OSError:  # a folder that one may pass through, but not look into
        return f"no such file: {short(path)}"
    meant = close(path.name, names, most=3)
    if meant:
        return f"no such file: {short(path)}; did you mean {' or '.join(meant)}?"
    return f"no such file: {short(path)}; the folder {short(path.parent)} holds {few(names) or 'nothing'}"


def _expanded(path: str | os.PathLike) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"no such file: {short(path)}; there is no such user here") from error
