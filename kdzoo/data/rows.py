"""What is in the images of a hub's dataset, whose rows hold them, or name files that do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdzoo.data.contents import file_digests, kept_digest
from kdzoo.data.hashing import digest


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
