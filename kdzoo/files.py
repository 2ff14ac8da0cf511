"""Files: read only where they are plain and of a bounded size, and written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from kdzoo.errors import OddFileError

_AT_ONCE = 2**30
"""Bytes of one read."""

MOST_TEXT = 2**20
"""Bytes of a text that a person writes: a bench, a recipe, a plugin."""

MOST_KEPT = 2**26
"""Bytes of a record, a study or what else a store keeps as text; a record of 300 epochs takes 50 KB."""


def _flag(name: str) -> int:
    return getattr(os, name, 0)  # not every system has each of them


# Without O_NONBLOCK, opening a named pipe would wait for a writer.
_READ = os.O_RDONLY | _flag("O_NONBLOCK") | _flag("O_BINARY") | _flag("O_CLOEXEC") | _flag("O_NOCTTY")


def read_plain(path: str | Path, most: int, *, follow: bool = True) -> bytes:
    """The content of a plain file.

    Args:
        path: the file.
        most: bytes that it may have. Nothing is read of a file that is larger, or no plain file.
        follow: whether a symbolic link to a plain file is read.

    Raises:
        OddFileError: it is a folder, a pipe, a device or larger, or the link is not followed. The message lacks the
            path.
        OSError: it is not there, or cannot be read.
    """
    return read_with_status(path, most, follow=follow)[0]


def read_with_status(path: str | Path, most: int, *, follow: bool = True) -> tuple[bytes, os.stat_result]:
    """As :func:`read_plain`, and what the system said of the file before it was read."""
    try:
        descriptor = os.open(path, _READ | (0 if follow else _flag("O_NOFOLLOW")))
    except OSError as error:
        raise _odd_or(error) from None
    try:
        status = os.fstat(descriptor)
        _require_plain(status)
        pieces, left = [], most + 1
        # One read gives 2 GiB at most, and the size is not told in /proc: read until nothing comes.
        while left > 0 and (piece := os.read(descriptor, min(left, max(status.st_size + 1, 4096), _AT_ONCE))):
            pieces.append(piece)
            left -= len(piece)
        content = b"".join(pieces)
    except OSError as error:
        raise _odd_or(error) from None
    finally:
        os.close(descriptor)
    if max(status.st_size, len(content)) > most:
        raise OddFileError(f"is larger than {most:,} bytes")
    return content, status


def check_plain(path: Path) -> None:
    """See that a path is a plain file, for who reads it in another way.

    Raises:
        OddFileError: it is a folder, a pipe or a device. The message lacks the path.
        OSError: it is not there, or cannot be looked at.
    """
    try:
        _require_plain(path.stat())
    except OSError as error:
        raise _odd_or(error) from None


def _require_plain(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
    kind = next((name for test, name in kinds if test(status.st_mode)), "device")
    raise OddFileError(f"is no plain file but a {kind}")


def _odd_or(error: OSError) -> Exception:
    """What to raise: a loop of links, a socket and a bad sector are odd files too."""
    reasons = {
        errno.ELOOP: "is a symbolic link, which is not followed",
        errno.ENXIO: "is no plain file but a socket",
        errno.EISDIR: "is no plain file but a folder",
        errno.EIO: "cannot be read: input/output error",
    }
    return OddFileError(reasons[error.errno]) if error.errno in reasons else error


def set_aside(path: Path) -> Path:
    """Give a damaged file, or what stands in its place, another name beside it: ``record.json.damaged-1``.

    Returns:
        The new path. Only who holds what the file belongs to may ask for it.
    """
    for number in itertools.count(1):
        other = path.with_name(f"{path.name}.damaged-{number}")
        if not os.path.lexists(other):
            path.rename(other)
            return other
    raise AssertionError("there is always a further number")


def make_folder(path: Path) -> None:
    """Make a folder and those around it, if it is not there; what stands in its place is set aside."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        set_aside(path)
        path.mkdir(exist_ok=True)


def from_home(path: str) -> str:
    """A path with the home folder in the place of ``~``, as a shell reads it: none reads YAML, or ``--out=~/runs``."""
    return os.path.expanduser(path)  # noqa: PTH111 - unlike Path's, it leaves a user that is unknown as it is


def atomic_write(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: into a neighbour, flushed to the disk, then renamed over the old one."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for one that is gone, as those that others write come and go."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _default_mode() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


_FILE_MODE = _default_mode()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file under, which takes its place whole and flushed when the block ends well.

    A folder that stands there is set aside.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.chmod(_FILE_MODE)  # whoever wrote it may have kept it from the others who share the store
        replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def replace(partial: Path, path: Path) -> None:
    """Rename a file over another one; a folder that stands there is set aside."""
    try:
        partial.replace(path)
    except IsADirectoryError:
        set_aside(path)
        partial.replace(path)


def discard(path: Path) -> None:
    """Remove a file or a link, if it is there; a folder stays."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Where the next command finds what took long: ``$XDG_CACHE_HOME/kdzoo``, or ``~/.cache/kdzoo``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path("~/.cache").expanduser()) / "kdzoo"
