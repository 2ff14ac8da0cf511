"""What the bank keeps: the passes of a teacher over a dataset, and what each gives for one sample. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdzoo.cell import PROTOCOL, content_hash
from kdzoo.config import BankDtype, BankMode
from kdzoo.recipe import Augment
from kdzoo.refs import DataRef

FORMAT = 1
"""Version of what is kept and of how; raised when older entries must not be read any more."""

BUDGET = 4 * 2**30
BYTES: Mapping[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}
"""Bytes of one value, of every type that can be kept."""
_FLOATING = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True)
class BankSettings:
    """How a bench runs its bank.

    Args:
        mode: ``auto`` keeps what fits and pays, in memory or on disk; ``ram`` and ``disk`` keep what fits; ``off``
            runs the teacher in the loop.
        budget: bytes that may be kept.
        dtype: of embeddings and stages; logits are kept as the teacher gives them.
        shared: whether several processes read it, so that ``auto`` takes the disk.
    """

    mode: BankMode = "auto"
    budget: int = BUDGET
    dtype: BankDtype = "float16"
    shared: bool = False


@dataclass(frozen=True)
class Pass:
    """One way of running a teacher over the fit split: cells with the same one see the same signals.

    Args:
        teacher: the network, in words.
        weights: names the network with its weights and its input conversion.
        data: the dataset.
        augment: makes the views.
        precision: of the teacher's pass, as in a recipe.
    """

    teacher: str
    weights: str
    data: DataRef
    augment: Augment
    precision: str

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that name the pass: a hash of everything that can change what the teacher gives."""
        return content_hash(self.identity())

    def identity(self) -> dict[str, Any]:
        """What the key is a hash of; the name of the teacher says nothing that its weights do not."""
        return {
            "format": FORMAT,
            "protocol": PROTOCOL,
            "weights": self.weights,
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "augment": self.augment.model_dump(mode="json", exclude_defaults=True),
            "precision": self.precision,
        }

    def number(self, view: int) -> int:
        """The number under which a view is kept: without any augmentation all views are the same."""
        return 0 if self.augment == Augment() else view


@dataclass(frozen=True)
class CacheEntry:
    """One tensor for each sample, in as many views as are asked for.

    Args:
        owner: the pass that gives it.
        text: which signal it is made of, and how: ``logits``, ``stages.2``, ``stages.1 pooled to 4x4``.
        shape: of one sample.
        given: the type that the pass gives, and that a strategy gets.
        kept: the type in which it is kept.
    """

    owner: Pass
    text: str
    shape: tuple[int, ...]
    given: str
    kept: str

    @cached_property
    def key(self) -> str:
        """Names the folder of the entry."""
        return content_hash([self.owner.key, self.text, self.kept])

    @property
    def sample_bytes(self) -> int:
        """Of one sample in one view."""
        return math.prod(self.shape) * BYTES[self.kept]

    @property
    def view_bytes(self) -> int:
        """Of all samples in one view."""
        return self.sample_bytes * self.owner.data.fit


def signal_of(text: str) -> str:
    """The signal that a text begins with: ``stages`` for ``stages.2 pooled to 4x4``."""
    return text.partition(" ")[0].partition(".")[0]


def kept_dtype(text: str, given: str, wanted: str) -> str:
    """The type in which a value is kept, never wider than it was given.

    Whole numbers stay as they are, and so do logits: they are few, and differences of large ones decide.
    """
    if given not in _FLOATING or signal_of(text) == "logits" or BYTES[wanted] >= BYTES[given]:
        return given
    return wanted
