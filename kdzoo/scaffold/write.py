"""A folder that is whole or not there, and never written over another."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kdzoo.errors import UsageError


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a new folder, or into one that is there and empty.

    All is first written beside its place and then moved into it. Where anything fails, nothing is left.

    Args:
        folder: the folder; those above it are made too.
        files: text by path, relative to the folder, with / between the parts.

    Raises:
        UsageError: the folder holds something, is a file, or cannot be written.
    """
    # Not resolved, since a link that leads nowhere is refused below; but without .., which would name a folder that is
    # made on the way there.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100
    _check_empty(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            whole = Path(scratch) / folder.name
            for path, text in files.items():
                target = whole / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                _move_into(whole, folder)
            else:
                whole.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _check_empty(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file: name another folder with --dir")
        there = sorted(path.name for path in folder.iterdir())
        if there:
            more = f" and {len(there) - 3:,} more" if len(there) > 3 else ""
            raise UsageError(
                f"{folder} holds {', '.join(there[:3])}{more}, and nothing is written over: name a new or empty folder "
                "with --dir"
            )


def _move_into(whole: Path, folder: Path) -> None:
    """Move a folder's content into an empty one, which may be somebody's current folder and so cannot be replaced."""
    moved: list[Path] = []
    try:
        for part in sorted(whole.iterdir()):
            part.rename(folder / part.name)
            moved.append(folder / part.name)
    except OSError:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise
