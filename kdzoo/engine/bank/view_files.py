"""The files of the bank: one array a view, in checksummed blocks, taken up again where a writer stopped. No torch here.

``view-00003.bin`` holds the array. While it is made, ``view-00003.sums`` notes each block that is whole; when all are,
``view-00003.json`` takes its place, and the view is finished. Readers look at finished views only.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from kdzoo.cell import canonical_json
from kdzoo.engine.bank.spec import BYTES
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_KEPT, check_plain, make_folder, read_plain, replace, set_aside
from kdzoo.refs import Frozen

FACTS = "entry.json"
"""The file that says what an entry is. Nothing is read by it, as its folder's name says it too."""

_Positive = Annotated[int, Field(ge=1)]


class ViewLayout(Frozen):
    """How the array of a view lies in its file.

    Args:
        samples: rows.
        shape: of one sample.
        dtype: of the values.
        block: samples that share a checksum.
    """

    samples: _Positive
    shape: tuple[_Positive, ...]
    dtype: str
    block: _Positive

    @model_validator(mode="after")
    def _known(self) -> ViewLayout:
        if self.dtype not in BYTES:
            raise ValueError(f"unknown dtype {self.dtype}")
        return self

    @property
    def row(self) -> int:
        """Bytes of one sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * BYTES[self.dtype]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.samples // self.block)

    def span(self, block: int) -> tuple[int, int]:
        """The first byte of a block, and the first behind it."""
        return block * self.block * self.row, min((block + 1) * self.block, self.samples) * self.row


class _Index(Frozen):
    """What is kept of a finished view.

    Args:
        layout: of its array.
        sums: of its blocks.
        name: of its entry and itself, as another view's file would fit too; older indexes lack it.
    """

    layout: ViewLayout
    sums: tuple[int, ...]
    name: str = ""

    @model_validator(mode="after")
    def _one_each(self) -> _Index:
        if len(self.sums) != self.layout.blocks:
            raise ValueError("one checksum is needed for each block")
        return self


class ViewFile:
    """One view of one entry.

    Args:
        folder: of the entry.
        view: its number.
    """

    def __init__(self, folder: Path, view: int) -> None:
        stem = folder / f"view-{view:05d}"
        self.name = f"{folder.name}/{stem.name}"
        self.data, self.index, self.journal = (stem.with_suffix(end) for end in (".bin", ".json", ".sums"))

    def layout(self) -> ViewLayout | None:
        """How a finished view lies; None if it is not finished."""
        index = self._read_index()
        return index.layout if index else None

    def _read_index(self) -> _Index | None:
        try:
            index = _Index.model_validate_json(read_plain(self.index, MOST_KEPT))
        except (OSError, OddFileError, ValidationError):  # a damaged index is none: all blocks are made again
            return None
        return index if index.name in ("", self.name) else None

    def faults(self) -> list[int]:
        """The blocks of a finished view that are cut or damaged; all bytes are read."""
        index = self._read_index()
        if index is None:
            return []
        return [
            block for block, total in enumerate(index.sums) if _checksum(self.data, index.layout.span(block)) != total
        ]

    def map(self) -> npt.NDArray[np.uint8]:
        """The bytes of a finished view, mapped into memory; what is written to them stays in this process."""
        return np.memmap(self.data, dtype=np.uint8, mode="c")

    def reopen(self, faults: list[int]) -> None:
        """Make a finished view an unfinished one that lacks some blocks. Who has mapped it keeps what it sees."""
        index = self._read_index()
        if index is None:
            return
        whole = {block: total for block, total in enumerate(index.sums) if block not in faults}
        _write_journal(self.journal, index.layout, whole)
        self.index.unlink()  # what is there is checked again when it is taken up

    def remove(self) -> None:
        """Forget the view."""
        for path in (self.index, self.journal, self.data):
            if path.is_dir() and not path.is_symlink():
                set_aside(path)
            path.unlink(missing_ok=True)


class BlockWriter:
    """Writes the blocks of a view that are not there yet. Only who holds the view's lock may.

    Args:
        file: the view.
        layout: how it will lie; what was begun with another one is begun again.
    """

    def __init__(self, file: ViewFile, layout: ViewLayout) -> None:
        self.file, self.layout = file, layout
        self._sums = self._taken_up()
        if not self._sums:
            file.remove()
        # Written anew, because its last line may have been cut.
        _write_journal(file.journal, layout, self._sums)
        file.data.touch()
        self._data = file.data.open("r+b", buffering=0)
        self._journal = file.journal.open("ab", buffering=0)
        self._at, self._sum = -1, 0

    def _taken_up(self) -> dict[int, int]:
        """The blocks that an earlier writer left whole, with their checksums."""
        try:
            content = read_plain(self.file.journal, MOST_KEPT)
            head, *lines = content.decode("ascii", errors="replace").split("\n")
            if ViewLayout.model_validate_json(head) != self.layout:
                return {}
        except (OSError, OddFileError, ValidationError):
            return {}
        found: dict[int, int] = {}
        for line in lines:
            pieces = line.split(" ")
            if len(pieces) == 2 and all(piece.isdecimal() for piece in pieces):
                block, total = map(int, pieces)
                if block < self.layout.blocks and _checksum(self.file.data, self.layout.span(block)) == total:
                    found[block] = total
        return found

    def lacks(self, sample: int) -> bool:
        """Whether the block of a sample must be written."""
        return sample // self.layout.block not in self._sums

    def put(self, sample: int, rows: memoryview) -> None:
        """Write consecutive samples of one block; those of a block come in order.

        Raises:
            OSError: they cannot be written.
        """
        layout, block = self.layout, sample // self.layout.block
        start, end = layout.span(block)
        offset = sample * layout.row
        if offset == start:
            self._sum = 0
        elif offset != self._at:
            raise ValueError(f"sample {sample} does not follow what was written before")
        self._data.seek(offset)
        left = rows
        while left:
            left = left[self._data.write(left) :]
        self._sum = zlib.crc32(rows, self._sum)
        self._at = offset + rows.nbytes
        if self._at == end:
            self._sums[block] = self._sum
            self._journal.write(f"{block} {self._sum}\n".encode())

    def finish(self) -> None:
        """Make the view a finished one.

        Raises:
            ValueError: a block is lacking.
            OSError: it cannot be written.
        """
        sums = tuple(self._sums[block] for block in sorted(self._sums))
        index = _Index(layout=self.layout, sums=sums, name=self.file.name)
        self.close()
        _replace(self.file.index, canonical_json(index.model_dump(mode="json")))
        self.file.journal.unlink()

    def close(self) -> None:
        """Let go of the files; the blocks that are whole are found again."""
        self._data.close()
        self._journal.close()


def _write_journal(path: Path, layout: ViewLayout, sums: Mapping[int, int]) -> None:
    lines = [canonical_json(layout.model_dump(mode="json")), *(f"{block} {total}" for block, total in sums.items())]
    _replace(path, "\n".join(lines) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Nothing here is flushed to the disk: whatever the machine loses when it stops, the checksums tell, and it is
    computed again.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="ascii")
        replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _checksum(path: Path, span: tuple[int, int]) -> int | None:
    """Of some bytes of a file; None where it ends before, or is none."""
    start, end = span
    total = 0
    try:
        check_plain(path)
        with path.open("rb") as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(end - start, 2**22))
                if not piece:
                    return None
                total = zlib.crc32(piece, total)
                start += len(piece)
    except (OSError, OddFileError):
        return None
    return total


def describe(folder: Path, facts: Mapping[str, object]) -> None:
    """Write down what an entry is, for those who look at its folder; anew where that is damaged."""
    if not read_facts(folder):
        make_folder(folder)
        _replace(folder / FACTS, canonical_json(dict(facts)) + "\n")


def read_facts(folder: Path) -> dict[str, object]:
    """What :func:`describe` wrote; empty where it is not there or damaged."""
    try:
        found = json.loads(read_plain(folder / FACTS, MOST_KEPT))
    except (OSError, OddFileError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
