"""Why a cell failed, in words."""

from __future__ import annotations

import errno
import os
import re

import torch

from kdzoo import foreign
from kdzoo.cell import Cell
from kdzoo.errors import KdzooError
from kdzoo.registry import Registry


def reason_of(error: BaseException, cell: Cell, registry: Registry) -> str:
    """What went wrong in a cell, in one line, and where in the strategy's own code, unless it told so itself."""
    told = _told(error)
    entry = registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}")
    line = "" if isinstance(error, KdzooError) else foreign.place_of(error, entry.homes)
    return f"{told} ({line})" if line else told


def _told(error: BaseException) -> str:
    text = foreign.line(foreign.text_of(error))
    if out_of_memory(error):
        return f"out of memory: {text}".rstrip(": ")
    return text if isinstance(error, KdzooError) and text else foreign.sentence(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocators of CPU and MPS raise a plain RuntimeError.
    told = r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED"
    return isinstance(error, RuntimeError) and re.search(told, foreign.line(foreign.text_of(error))) is not None


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error; safetensors tells it in words only."""
    causes = [each for each in (error, error.__cause__, error.__context__) if each]
    full = any(isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT) for each in causes)
    return full or any(os.strerror(errno.ENOSPC) in foreign.text_of(each) for each in causes)
