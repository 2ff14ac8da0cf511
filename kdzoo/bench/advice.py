"""What seems wrong with a given teacher: its classes are in another order, or its images are normalised otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import ValidationError

from kdzoo.bench.classorder import Reordering, find_reordering
from kdzoo.bench.knowledge import Classes
from kdzoo.bench.normalisation import find_normalisation
from kdzoo.cell import Frozen, TeacherRef
from kdzoo.data.load import LoadedData
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_KEPT, atomic_write, make_folder, read_plain
from kdzoo.foreign import printable
from kdzoo.jsontext import sealed, unsealed
from kdzoo.models.teacher import Teacher
from kdzoo.models.weightfile import open_weights

FILE = "advice.json"
"""Beside the measures of the teacher."""

_FORM = 1
"""Raise it when something else is looked for: what was kept before is then looked for again."""

_SHOWN = 3
"""Classes that are told by name."""

_LONGEST = 40


class Advice(Frozen):
    """What to tell of a teacher; both are empty where nothing seems wrong.

    Args:
        form: version of what was looked for.
        order: that its classes are in another order.
        normalisation: that it needs other images.
    """

    form: int = 0
    order: str = ""
    normalisation: str = ""

    @property
    def lines(self) -> list[str]:
        """What there is to tell."""
        return [line for line in (self.order, self.normalisation) if line]


def advise(
    teacher: Teacher,
    ref: TeacherRef,
    data: LoadedData,
    guess: Callable[[], Classes],
    *,
    folder: Path,
    weights: Path | None,
    device: torch.device,
) -> Advice:
    """What seems wrong with a teacher whose weights are given, by its guesses on tune; found once, and kept.

    A teacher that kdzoo trains has the dataset's classes and images, and nothing is looked for. Another normalisation
    is tried where the weights are from a file, since timm's are known to need.

    Args:
        teacher: the network.
        ref: says where its weights come from.
        data: the dataset.
        guess: gives its classes on tune.
        folder: holds the teacher's measures.
        weights: the file of its weights, if it has one.
        device: where it is.
    """
    if ref.weights not in ("file", "pretrained"):
        return Advice()
    kept = folder / FILE
    try:
        text, fits = unsealed(read_plain(kept, MOST_KEPT))
        found = Advice.model_validate_json(text)
        if fits and found.form == _FORM:
            return found
    except (OSError, OddFileError, ValidationError):
        pass
    guesses = guess()
    order = find_reordering(guesses, data.labels("tune").numpy(), data.ref.num_classes)
    normalisation = find_normalisation(teacher, ref.model, data, guesses, device) if ref.weights == "file" else None
    advice = Advice(
        form=_FORM,
        order=_order_text(order, data, _recorded(weights)) if order else "",
        normalisation=(
            f"with images normalised by mean {normalisation.mean} and std {normalisation.std} it scores "
            f"{normalisation.after:.1f}% on {normalisation.samples:,} samples of tune instead of "
            f"{normalisation.before:.1f}% (--teacher-input mean={normalisation.mean},std={normalisation.std})"
            if normalisation
            else ""
        ),
    )
    make_folder(folder)
    atomic_write(kept, sealed(advice.model_dump(mode="json")).encode())
    return advice


def _order_text(order: Reordering, data: LoadedData, recorded: tuple[str, ...]) -> str:
    def told(label: int, said: int) -> str:
        own = f" ({_name(recorded[said])} in its own file)" if said < len(recorded) else ""
        return f"for {_name(data.classes[label])} it says {_name(data.classes[said])}{own}"

    moved = [told(*one) for one in order.moved[:_SHOWN]]
    more = len(order.moved) - _SHOWN
    return (
        f"its classes seem to be in another order: reordered, it scores {order.after:.1f}% on tune instead of "
        f"{order.before:.1f}% ({', '.join(moved)}{f', and so on for {more} more' if more > 0 else ''})"
    )


def _name(text: str) -> str:
    return repr(printable(text, _LONGEST))


def _recorded(weights: Path | None) -> tuple[str, ...]:
    """The names of the classes that a file of weights tells, in the order of its scores; none where it tells none."""
    return open_weights(weights).classes or () if weights else ()
