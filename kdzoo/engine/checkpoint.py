"""Checkpoints: whole or absent, checked by hash, the last two kept so that a damaged one costs an epoch."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from kdzoo.files import replacing

_MAGIC = b"kdzoo-1\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_KEEP = 2
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one cell: ``checkpoint-N`` is the state after N epochs.

    A file is a magic word, the SHA-256 of the rest, and what torch.save writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*"))

    def save(self, epochs: int, state: dict[str, Any]) -> None:
        """Keep the state after so many epochs, and drop all but the last two."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        with replacing(self.folder / f"checkpoint-{epochs:06d}") as path, path.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest())
            file.write(payload)
        for path in self._files()[:-_KEEP]:
            path.unlink()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that is whole, or None. A damaged file is named in the log and removed."""
        for path in reversed(self._files()):
            content = path.read_bytes()
            head, payload = content[:_HEAD], memoryview(content)[_HEAD:]
            if head == _MAGIC + hashlib.sha256(payload).digest():
                state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
                return state
            _log.warning("%s is damaged; going back to the checkpoint before it", path)
            path.unlink()
        return None
