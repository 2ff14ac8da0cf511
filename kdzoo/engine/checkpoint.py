"""Checkpoints: whole or absent, checked by hash, the last two kept so that a damaged one costs an epoch."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kdzoo.engine.world import World
from kdzoo.errors import KdzooError, OddFileError
from kdzoo.files import discard, read_plain, replacing, set_aside

_MAGIC = b"kdzoo-1\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_KEEP = 2
_MOST = 2**42
"""Bytes of a checkpoint."""
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one cell: ``checkpoint-N`` is the state after N epochs.

    A file is a magic word, the SHA-256 of the rest, and what torch.save writes.

    Args:
        folder: of the cell, beside the folders of others.
        lower: folders of cells whose checkpoints are taken up where there is none of its own, the furthest first.
    """

    def __init__(self, folder: Path, lower: Sequence[Path] = ()) -> None:
        self.folder, self.lower = folder, lower

    def save(self, epochs: int, state: dict[str, Any]) -> None:
        """Keep the state after so many epochs, and drop all but the last two."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        with replacing(self.folder / f"checkpoint-{epochs:06d}") as path, path.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest())
            file.write(payload)
        for path in _files_in(self.folder)[:-_KEEP]:
            discard(path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that is whole, or None. A damaged file is named in the log and removed, a folder set
        aside."""
        return self._newest(device)[1]

    def _newest(self, device: torch.device) -> tuple[str, dict[str, Any] | None]:
        """Where the newest state stands, as seen from the folder around all cells, and the state; nothing and None."""
        for folder in (self.folder, *self.lower):
            for path in reversed(_files_in(folder)):
                if state := _read(path, device):
                    return f"{folder.name}/{path.name}", state
                _log.warning("%s is damaged; using the previous checkpoint", path)
                if path.is_dir() and not path.is_symlink():
                    set_aside(path)
                path.unlink(missing_ok=True)
        return "", None


class SharedCheckpoints(Checkpoints):
    """The checkpoints of a cell that several ranks train: rank 0 writes, and all take up the one that it finds.

    Args:
        folder: of the cell, which all ranks see.
        world: the ranks.
        lower: see :class:`Checkpoints`.
    """

    def __init__(self, folder: Path, world: World, lower: Sequence[Path] = ()) -> None:
        super().__init__(folder, lower)
        self._world = world

    def save(self, epochs: int, state: dict[str, Any]) -> None:
        """See :class:`Checkpoints`; the state is the same on every rank."""
        if self._world.leads:
            super().save(epochs, state)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """See :class:`Checkpoints`.

        Raises:
            KdzooError: a rank does not see what rank 0 sees.
        """
        place, state = self._newest(device) if self._world.leads else ("", None)
        place = self._world.share(place)
        if self._world.leads or not place:
            return state
        path = self.folder.parent / place
        if (state := _read(path, device)) is None:
            raise KdzooError(f"{path} differs from what rank 0 sees; give all machines the same folder of runs")
        return state


def _files_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    return sorted(path for path in folder.glob("checkpoint-*") if ".damaged-" not in path.name)


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in a file; None where it is damaged, or not there."""
    try:
        content = read_plain(path, _MOST)
    except (OddFileError, FileNotFoundError):
        return None
    head, payload = content[:_HEAD], memoryview(content)[_HEAD:]
    if head != _MAGIC + hashlib.sha256(payload).digest():
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state
