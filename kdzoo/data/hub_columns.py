"""The columns of a hub's dataset that hold images and labels: ``hfds/cifar100:image=img:label=fine_label``."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdzoo.errors import UsageError, unknown
from kdzoo.foreign import some

_OPTIONS = {"image": "input_key", "label": "target_key"}
"""What kdzoo calls a column, and what timm's readers call it."""
_BOTH: dict[str, str | None] = {"image": "image", "label": "label"}
_DEFAULTS: dict[str, dict[str, str | None]] = {"hfds": _BOTH, "hfids": _BOTH, "tfds": _BOTH, "wds": {"label": None}}
"""The columns that each kind of dataset has, and what they are called where nobody says. In wds/ an image is a file of
its own with a known ending; its class is one too, or a key of the sample's JSON."""


@dataclass(frozen=True)
class Columns:
    """Which columns are read.

    Args:
        defaults: those that timm's reader takes where nobody says which; None where that is no column.
        chosen: those that somebody chose instead.
    """

    defaults: dict[str, str | None]
    chosen: dict[str, str]

    @classmethod
    def parse(cls, name: str) -> tuple[str, Columns]:
        """Take ``hfds/NAME:label=COLUMN`` apart; a colon without ``=`` behind it belongs to the name, as in tfds/.

        Raises:
            UsageError: an option that there is not, or one without a value.
        """
        prefix = name.partition("/")[0].lower()
        bare, *pieces = name.split(":")
        while pieces and "=" not in pieces[0]:
            bare += f":{pieces.pop(0)}"
        chosen: dict[str, str] = {}
        defaults = _DEFAULTS.get(prefix, {})
        if pieces and not defaults:
            raise UsageError(f"dataset {name}: {prefix}/ has no columns to choose; leave :{pieces[0]} out")
        for piece in pieces:
            option, equals, column = piece.partition("=")
            if option not in defaults:
                raise UsageError(f"dataset {name}: {unknown('option', option, defaults)}")
            if not (equals and column) or option in chosen:
                raise UsageError(f"dataset {name}: write each option once, as {option}=COLUMN")
            if "," in column:
                raise UsageError(f"dataset {name}: one column gives the {option}, not several")
            chosen[option] = column
        return bare, cls(defaults, dict(sorted(chosen.items())))

    def __str__(self) -> str:
        """As in a name: nothing where all is as it would be anyway."""
        shown = {option: column for option, column in self.chosen.items() if column != self.defaults.get(option)}
        return "".join(f":{option}={column}" for option, column in shown.items())

    @property
    def arguments(self) -> dict[str, Any]:
        """For timm's factory."""
        return {_OPTIONS[option]: column for option, column in self.chosen.items()}

    def check(self, name: str, reader: Any) -> None:
        """Refuse columns that a reader does not have, as far as it knows.

        Raises:
            UsageError: naming those that there are.
        """
        there = reader_columns(reader)
        for option, column in (self.defaults | self.chosen).items():
            if there and column and column not in there and column.partition("/")[0] not in there:
                raise UsageError(
                    f"{name} has no column {column!r} with the {option}; it has {some(there, 20)}: choose one with "
                    f":{option}=COLUMN behind the dataset's name"
                )


def reader_columns(reader: Any) -> list[str]:
    """The columns that one of timm's readers can read; none where it does not say."""
    if (data := getattr(reader, "dataset", None)) is not None:
        # A cast to images, as timm's reader makes it, adds a column that is not there, without any image in it.
        empty = {reader.image_key} if data.data.column(reader.image_key).null_count == len(data) else set()
        return [column for column in data.column_names if column not in empty]
    info = getattr(getattr(reader, "builder", None), "info", None)
    return list(getattr(info, "features", None) or ())


def class_numbers(labels: Iterable[Any], name: str) -> NDArray[np.int64]:
    """Labels as they come from a column; -1 for those that are missing, as sets without labels have them.

    Raises:
        UsageError: one is no whole number.
    """

    def checked() -> Iterator[int]:
        for place, label in enumerate(labels):
            if label is None:
                yield -1
            elif isinstance(label, numbers.Integral):
                yield int(label)
            else:
                raise UsageError(
                    f"{name}: the label of sample {place} is {label!r:.60}, which is no class number; choose "
                    "another column with :label=COLUMN behind the dataset's name"
                )

    return np.fromiter(checked(), dtype=np.int64)
