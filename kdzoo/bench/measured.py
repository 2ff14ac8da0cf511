"""What was measured of a teacher, kept in the store, and believed only while it is what was written."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from kdzoo.cell import Frozen
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_KEPT, atomic_write, make_folder, read_plain
from kdzoo.jsontext import sealed, unsealed
from kdzoo.record import Digest, TeacherMeasures

Guesses = npt.NDArray[np.int64]

_MOST_GUESSES = 2**32
"""Bytes: half a billion test samples."""


class _Kept(Frozen):
    """The content of ``measures.json``.

    Args:
        measures: of the teacher.
        guesses: SHA-256 of ``guesses.npy``.
    """

    measures: TeacherMeasures
    guesses: Digest


def read_measures(folder: Path) -> tuple[TeacherMeasures, Guesses] | None:
    """What was measured of a teacher, and its guesses on test; None where it must be measured again.

    That is so where a file is not there or is not what was written, and where an older kdzoo wrote it without digests.
    """
    try:
        body, fits = unsealed(read_plain(folder / "measures.json", MOST_KEPT))
        content = read_plain(folder / "guesses.npy", _MOST_GUESSES)
        kept = _Kept.model_validate_json(body)
        if not fits or hashlib.sha256(content).hexdigest() != kept.guesses:
            return None
        guesses = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, OddFileError, ValidationError, ValueError):
        return None
    return (kept.measures, guesses) if guesses.shape == (kept.measures.test.n,) else None


def write_measures(folder: Path, measures: TeacherMeasures, guesses: Guesses) -> None:
    """Keep what was measured of a teacher."""
    make_folder(folder)
    buffer = io.BytesIO()
    np.save(buffer, guesses, allow_pickle=False)
    kept = _Kept(measures=measures, guesses=hashlib.sha256(buffer.getvalue()).hexdigest())
    atomic_write(folder / "guesses.npy", buffer.getvalue())
    atomic_write(folder / "measures.json", sealed(kept.model_dump(mode="json")).encode())
