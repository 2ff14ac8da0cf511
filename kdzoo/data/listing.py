"""Which files below a folder are images, and what else is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ENDINGS = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".dib", ".gif"),
        *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".jp2", ".j2k"),
    }
)
"""Files that are read as images, whatever the case; those that plugins add to timm's endings come on top."""
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"})

_Place = tuple[int, int]


class Listing:
    """The images of a split, folder by folder, and what was met on the way.

    Links to files and folders are followed. Hidden files and folders, and those that operating systems leave behind,
    do not count.

    Args:
        root: the split's folder; all names are relative to it, with slashes.

    Attributes:
        others: ending -> number of the files that are not read.
        loops: links to a folder above them, which are not followed.
        broken: links to what is not there.
    """

    def __init__(self, root: Path) -> None:
        from timm.data.readers.img_extensions import get_img_extensions

        self.root = root
        self.others: Counter[str] = Counter()
        self.loops: list[str] = []
        self.broken: list[str] = []
        self._endings: frozenset[str] = ENDINGS | get_img_extensions(as_set=True)  # type: ignore[no-untyped-call]

    def folders(self) -> list[str]:
        """The folders right in the root, by code point."""
        return self._entries("")[1]

    def direct(self) -> list[str]:
        """The images right in the root, in no folder."""
        return [file for file in self._entries("")[0] if _ending(file) in self._endings]

    def images(self, folder: str) -> list[str]:
        """The images in a folder, then those in the folders inside it, each by code point.

        Raises:
            OSError: a folder cannot be read.
        """
        found = []
        for file in self._walk(folder, _above(self.root)):
            ending = _ending(file)
            if ending in self._endings:
                found.append(file)
            else:
                self.others[ending or "without an ending"] += 1
        return found

    def _walk(self, folder: str, above: frozenset[_Place]) -> Iterator[str]:
        path = self.root / folder
        here = _place(path)
        if here in above:
            self.loops.append(folder)
            return
        # What a link leads to has folders above it that were not walked through.
        inside = above | {here} | (_above(path) if path.is_symlink() else frozenset())
        files, folders = self._entries(folder)
        yield from files
        for name in folders:
            yield from self._walk(name, inside)

    def _entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Files and folders of a folder; broken links are noted, and pipes and the like, which may not end, are not
        opened."""
        files, folders = [], []
        for entry in sorted(os.scandir(self.root / folder), key=lambda entry: entry.name):
            if not is_shown(entry.name):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                is_folder = is_file = False
            if is_folder:
                folders.append(name)
            elif is_file:
                files.append(name)
            elif not Path(entry.path).exists():
                self.broken.append(name)
        return files, folders


def is_shown(name: str) -> bool:
    """Whether a file or folder is a person's own: not hidden, and not left behind by an operating system."""
    return not name.startswith(".") and name.lower() not in _JUNK


def _ending(file: str) -> str:
    stem, dot, ending = file.rpartition("/")[2].rpartition(".")
    return dot + ending.lower() if stem else ""


def _place(path: Path) -> _Place:
    status = path.stat()
    return status.st_dev, status.st_ino


def _above(path: Path) -> frozenset[_Place]:
    """The folder that a path leads to, and all above it."""
    real = path.resolve()
    return frozenset(_place(folder) for folder in (real, *real.parents))
