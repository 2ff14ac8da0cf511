"""Files that are whole or not there: written beside their place, flushed, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


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
    except FileNotFoundError:
        return 0


def _default_mode() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


_FILE_MODE = _default_mode()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file under, which takes its place whole and flushed when the block ends well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.chmod(_FILE_MODE)  # whoever wrote it may have kept it from the others who share the store
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
