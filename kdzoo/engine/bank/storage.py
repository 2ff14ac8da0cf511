"""Where the bank's arrays stand: in the memory of this process, or in the files of a store."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from kdzoo.engine.bank.spec import CacheEntry, Pass
from kdzoo.engine.bank.view_files import BlockWriter, ViewFile, ViewLayout, describe
from kdzoo.files import size_of
from kdzoo.store import Store

BLOCK_SAMPLES = 1024
BLOCK_BYTES = 8 * 2**20
RESERVED_BYTES = 64 * 2**20
"""Of the disk, what is left to checkpoints and records."""


class ViewWriter(Protocol):
    """Takes one view of one entry while it is made."""

    dtype: str

    def lacks(self, sample: int) -> bool:
        """Whether a sample must be made."""

    def put(self, sample: int, rows: Tensor) -> None:
        """Take consecutive samples, on the CPU and in the sink's type."""

    def finish(self) -> None:
        """All samples are there: the view can be read."""

    def close(self) -> None:
        """Let go of what is half made."""


class Storage(Protocol):
    """Holds the views of one pass."""

    form: Literal["ram", "disk"]

    def get(self, entry: CacheEntry, number: int) -> Tensor | None:
        """A finished view, samples x shape, in the type in which it is kept; None if there is none."""

    def sink(self, entry: CacheEntry, number: int, dtype: str, batch: int) -> ViewWriter:
        """Begin or go on with a view, in batches of so many samples; only who has claimed the view may."""

    def reserve(self, wanted: Mapping[CacheEntry, int], number: int) -> None:
        """See that there is room for views of some entries, of so many bytes each.

        Raises:
            OSError: there is not.
        """

    def drop(self, entry: CacheEntry, number: int) -> None:
        """Forget a view that is half made."""

    def claim(self, number: int, *, wait: bool) -> contextlib.AbstractContextManager[bool]:
        """Hold a view, so that no other process makes it; False where one does, unless ``wait``."""


class RamStorage:
    """In the memory of this process."""

    form: Literal["ram", "disk"] = "ram"

    def __init__(self) -> None:
        self.views: dict[tuple[str, int], Tensor] = {}

    def get(self, entry: CacheEntry, number: int) -> Tensor | None:
        """See :class:`Storage`."""
        return self.views.get((entry.key, number))

    def sink(self, entry: CacheEntry, number: int, dtype: str, batch: int) -> ViewWriter:
        """See :class:`Storage`."""
        return _RamWriter(self.views, entry, number, dtype)

    def reserve(self, wanted: Mapping[CacheEntry, int], number: int) -> None:
        """See :class:`Storage`."""

    def drop(self, entry: CacheEntry, number: int) -> None:
        """See :class:`Storage`."""

    @contextlib.contextmanager
    def claim(self, number: int, *, wait: bool) -> Iterator[bool]:
        """See :class:`Storage`."""
        yield True


class _RamWriter:
    def __init__(self, views: dict[tuple[str, int], Tensor], entry: CacheEntry, number: int, dtype: str) -> None:
        self.dtype = dtype
        self._views, self._place = views, (entry.key, number)
        self._rows = torch.empty((entry.owner.data.fit, *entry.shape), dtype=getattr(torch, dtype))

    def lacks(self, sample: int) -> bool:
        return True

    def put(self, sample: int, rows: Tensor) -> None:
        self._rows[sample : sample + len(rows)] = rows

    def finish(self) -> None:
        self._views[self._place] = self._rows

    def close(self) -> None:
        pass


class DiskStorage:
    """In a store, mapped into memory where it is read.

    Args:
        store: where.
        owner: the pass.
    """

    form: Literal["ram", "disk"] = "disk"

    def __init__(self, store: Store, owner: Pass) -> None:
        self.store, self.owner = store, owner
        self._checked: dict[Path, tuple[int, int]] = {}

    def get(self, entry: CacheEntry, number: int) -> Tensor | None:
        """See :class:`Storage`. A view is read once as a whole, to see whether it is still what was written."""
        file = ViewFile(self.store.bank / entry.key, number)
        layout = file.layout()
        try:
            if layout is None or not self._is_whole(file):
                return None
            data = torch.from_numpy(file.map())
        except FileNotFoundError:  # taken away meanwhile: removed by a person, or found damaged by another process
            return None
        return data.view(getattr(torch, layout.dtype)).view(layout.samples, *layout.shape)

    def _is_whole(self, file: ViewFile) -> bool:
        stat = file.index.stat()
        mark = (stat.st_mtime_ns, stat.st_ino)
        if self._checked.get(file.index) != mark:
            if file.faults():
                return False
            self._checked[file.index] = mark
        return True

    def sink(self, entry: CacheEntry, number: int, dtype: str, batch: int) -> ViewWriter:
        """See :class:`Storage`."""
        folder = self.store.bank / entry.key
        describe(folder, _facts(entry))
        block = batch
        while block < BLOCK_SAMPLES and 2 * block * entry.sample_bytes <= BLOCK_BYTES:
            block *= 2
        layout = ViewLayout(samples=self.owner.data.fit, shape=entry.shape, dtype=dtype, block=block)
        file = ViewFile(folder, number)
        file.reopen(file.faults())
        return _DiskWriter(BlockWriter(file, layout))

    def reserve(self, wanted: Mapping[CacheEntry, int], number: int) -> None:
        """See :class:`Storage`."""
        there = sum(size_of(ViewFile(self.store.bank / entry.key, number).data) for entry in wanted)
        if shutil.disk_usage(self.store.path).free + there < sum(wanted.values()) + RESERVED_BYTES:
            raise OSError(errno.ENOSPC, "too little of the disk would be left")

    def drop(self, entry: CacheEntry, number: int) -> None:
        """See :class:`Storage`."""
        file = ViewFile(self.store.bank / entry.key, number)
        if file.layout() is None:
            file.remove()

    @contextlib.contextmanager
    def claim(self, number: int, *, wait: bool) -> Iterator[bool]:
        """See :class:`Storage`."""
        with self.store.claim(f"bank-{self.owner.key}-{number:05d}", wait=wait) as mine:
            yield mine


class _DiskWriter:
    def __init__(self, writer: BlockWriter) -> None:
        self.dtype = writer.layout.dtype
        self.lacks, self.finish, self.close = writer.lacks, writer.finish, writer.close
        self._writer = writer

    def put(self, sample: int, rows: Tensor) -> None:
        flat = rows.contiguous().view(len(rows), -1).view(torch.uint8)
        self._writer.put(sample, flat.numpy().reshape(-1).data)


def _facts(entry: CacheEntry) -> dict[str, object]:
    owner = entry.owner
    return {
        "signal": entry.text,
        "shape": list(entry.shape),
        "dtype": entry.kept,
        "teacher": owner.teacher,
        "data": owner.data.name,
        "samples": owner.data.fit,
        "pass": owner.identity(),
    }
