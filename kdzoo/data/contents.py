"""Files and rows known by what is in them, each read once: the hash is kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdzoo.data.hashing import digest
from kdzoo.files import atomic_write, cache_folder

TRUSTED = "of the files' contents; a file with its old size, times and inode is not read again"
MOST_DECODED = 256 * 2**20
"""Bytes of the cache folder; a file takes 24 of them. The sets that were not opened for longest are dropped first."""
SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was looked at may change again within one tick of its file system's
clock; it is hashed anew next time."""
SAID_ABOVE = 2**30
"""Bytes to read that take long enough to be announced."""
_DIGEST, _CHUNK = 16, 64
_MOST_OTHERS = 4
"""How many times as many hashes of other files are kept as of those that were asked for; some of them are gone."""
_ENTRY = np.dtype([("key", "<u8"), ("digest", np.uint8, _DIGEST)])
_MAGIC = b"kdzoo hashes of files 1\n"

Digests = NDArray[np.uint8]


def file_digests(root: Path, names: Sequence[str]) -> Digests:
    """What is in these files: N x 16 bytes, the first half of each one's SHA-256.

    A file whose name, size, times of change and inode are those of an earlier call is not read again. Files are read
    by several threads.

    Args:
        root: the folder that holds them.
        names: their paths below it.

    Raises:
        OSError: one cannot be read.
    """
    now = time.time_ns()
    keys, sizes, changed = _looked_at(root, names)
    place = _place(root)
    kept = _kept(place)
    digests = np.zeros((len(names), _DIGEST), dtype=np.uint8)
    places = np.searchsorted(kept["key"], keys).clip(max=max(len(kept) - 1, 0))
    known = kept["key"][places] == keys if len(kept) else np.zeros(len(names), dtype=bool)
    digests[known] = kept["digest"][places[known]]
    missing = np.flatnonzero(~known)
    if not len(missing):
        return digests
    _announce(root, sizes[missing])
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]

    def read(chunk: NDArray[np.intp]) -> None:
        for number in chunk:
            digests[number] = np.frombuffer(_digest(root, names[number]), dtype=np.uint8)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, chunks):
            pass
    _keep(place, keys, digests, changed < now - SETTLED_NS, kept)
    return digests


def kept_digest(root: Path, files: Sequence[str], what: str, read: Callable[[], bytes]) -> bytes:
    """16 bytes of a digest of something in these files, made anew where one of them changed.

    Args:
        root: the folder that holds them.
        files: their paths.
        what: tells digests of the same files apart.
        read: makes the digest.

    Raises:
        OSError: a file is not there.
    """
    now = time.time_ns()
    looked, sizes, changed = _looked_at(root, [os.path.relpath(file, root) for file in files])
    key = np.frombuffer(hashlib.sha256(looked.tobytes()).digest()[:8], dtype="<u8")
    place = _place(root, what)
    kept = _kept(place)
    if len(kept) and kept["key"][0] == key[0]:
        return bytes(kept["digest"][0])
    _announce(root, sizes)
    made = read()[:_DIGEST]
    settled = np.array([changed.max() < now - SETTLED_NS])
    _keep(place, key, np.frombuffer(made, dtype=np.uint8)[None], settled, kept[:0])
    return made


class Stamp(NamedTuple):
    """Files without their contents.

    Args:
        digest: differs where one of them is another, was changed, came or went.
        newest: when the last of them changed, nanoseconds.
    """

    digest: str
    newest: int

    def settled(self, began: int) -> bool:
        """Whether no file can have changed again since, within one tick of its file system's clock.

        Args:
            began: when the stamp was about to be taken, nanoseconds.
        """
        return self.newest < began - SETTLED_NS


def stamp_files(paths: Iterable[Path]) -> Stamp | None:
    """The stamp of files and folders, which need not be there; None where a link leads to a folder, or one is
    unreadable."""
    total, newest = hashlib.sha256(), 0
    try:
        for file in itertools.chain.from_iterable(map(_files_of, paths)):
            status = os.stat(file) if os.path.lexists(file) else None  # noqa: PTH116  (a third of Path's time)
            if status:
                newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
            total.update(repr((file, status and _facts(status))).encode(errors="surrogateescape"))
    except OSError:
        return None
    return Stamp(total.hexdigest(), newest)


def _files_of(path: Path) -> Iterator[str]:
    """A file, or all that are in a folder, by their absolute paths."""
    if not path.is_dir():
        yield str(path.absolute())
        return
    for folder, folders, names in os.walk(path.absolute()):
        folders.sort()
        if links := [name for name in folders if Path(folder, name).is_symlink()]:
            raise OSError(f"{folder} has links to folders: {links}")
        yield from (f"{folder}{os.sep}{name}" for name in (".", *sorted(names)))


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    """All that a change of a file would change."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _announce(root: Path, sizes: NDArray[np.int64]) -> None:
    if (size := int(sizes.sum())) > SAID_ABOVE:
        what = f"{len(sizes):,} files in {root} ({size / 1e9:.1f} GB)"
        print(f"reading {what} for the fingerprint; their hashes are cached", file=sys.stderr, flush=True)


def _looked_at(root: Path, names: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Of each file, without reading it: a hash of its name and of all that a change of it would change; its size; and
    when it changed, in nanoseconds."""
    keys = np.empty(len(names), dtype="<u8")
    sizes, changed = (np.empty(len(names), dtype=np.int64) for _ in range(2))
    for place, name in enumerate(names):
        status = os.stat(f"{root}{os.sep}{name}")  # noqa: PTH116  (a third of Path's time, on a million files)
        sizes[place], changed[place] = status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
        keys[place] = int.from_bytes(hashlib.sha256(repr((name, *_facts(status))).encode()).digest()[:8], "little")
    return keys, sizes, changed


def _digest(root: Path, name: str) -> bytes:
    with (root / name).open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()[:_DIGEST]


def _place(root: Path, what: str = "") -> Path | None:
    """The file of a folder's hashes; None for somebody without a home."""
    # By path, not by content: two folders of the same files are two sets of inodes.
    name = hashlib.sha256(os.fsencode(root.resolve()) + b"\0" + what.encode()).hexdigest()[:32]
    try:
        return cache_folder() / f"{name}.hashes"
    except RuntimeError:
        return None


def _kept(place: Path | None) -> NDArray[Any]:
    """What is kept there, by ascending key; nothing where there is no file, or a damaged one."""
    nothing = np.zeros(0, dtype=_ENTRY)
    if place is None:
        return nothing
    try:
        content = place.read_bytes()
    except OSError:
        return nothing
    with contextlib.suppress(OSError):
        place.touch()  # the sets in use are dropped last
    head = len(_MAGIC) + 32
    entries = content[head:]
    if content[:head] != _MAGIC + hashlib.sha256(entries).digest() or len(entries) % _ENTRY.itemsize:
        return nothing
    return np.frombuffer(entries, dtype=_ENTRY)


def _keep(
    place: Path | None, keys: NDArray[Any], digests: Digests, settled: NDArray[np.bool_], before: NDArray[Any]
) -> None:
    """Keep what will be good next time, beside what was kept before: several splits may have one folder. That it
    cannot be written costs time and nothing else."""
    if place is None or not settled.any():
        return
    entries = np.empty(int(settled.sum()), dtype=_ENTRY)
    entries["key"], entries["digest"] = keys[settled], digests[settled]
    others = before[~np.isin(before["key"], keys)][: _MOST_OTHERS * len(keys)]
    entries = np.concatenate([entries, others])
    content = entries[np.argsort(entries["key"])].tobytes()
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(place, _MAGIC + hashlib.sha256(content).digest() + content)
        _drop_oldest(place.parent)


def _drop_oldest(folder: Path) -> None:
    total = 0
    found = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in folder.glob("*.hashes")]
    for place, (_, size, path) in enumerate(sorted(found, reverse=True)):
        total += size
        if place and total > MOST_DECODED:
            path.unlink(missing_ok=True)


def rows_digest(data: Any, column: str) -> str:
    """A hash of all images of a split, in order.

    Args:
        data: a ``datasets.Dataset`` whose images are not decoded: each is its ``bytes``, or the ``path`` of a file.
        column: the one with the images.
    """
    first = next(_images(data, column), None)
    if first is not None and not first.get("bytes"):
        # A folder of images that the library opened: the rows name files, which may change under them.
        paths = [image["path"] for image in _images(data, column) if image and image.get("path")]
        root = _folder(paths)
        return digest(file_digests(root, [os.path.relpath(path, root) for path in paths]))

    def read() -> bytes:
        total = hashlib.sha256()
        for image in _images(data, column):
            content = (image or {}).get("bytes") or b""
            total.update(f"{len(content)}:".encode())
            total.update(content)
        return total.digest()

    files = [file["filename"] for file in data.cache_files]
    return (kept_digest(_folder(files), files, f"{data.split} {column}", read) if files else read()).hex()


def _images(data: Any, column: str) -> Iterator[dict[str, Any] | None]:
    for batch in data.select_columns([column]).with_format("arrow").iter(64):
        yield from batch[column].to_pylist()


def _folder(files: list[str]) -> Path:
    return Path(os.path.commonpath([Path(file).parent for file in files]))
