"""What was measured of a teacher, what seems wrong with it, and whether it may teach."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from kdzoo.bench.guess_tests import Classes, Reordering, expected_hits, find_reordering, knows
from kdzoo.bench.normalisation import find_normalisation
from kdzoo.data.load import LoadedData
from kdzoo.errors import KdzooError, OddFileError
from kdzoo.files import MOST_KEPT, atomic_write, make_folder, read_plain
from kdzoo.foreign import printable
from kdzoo.jsontext import sealed, unsealed
from kdzoo.measures import SAMPLES
from kdzoo.models.teacher import Teacher
from kdzoo.models.weightfile import open_weights
from kdzoo.record_parts import Digest, TeacherMeasures
from kdzoo.refs import Frozen, TeacherRef

Guesses = npt.NDArray[np.int64]

_MOST_GUESSES = 2**32
"""Bytes: half a billion test samples."""


class _Kept(Frozen):
    """The content of ``measures.json``.

    Args:
        scores: of the teacher.
        guesses: SHA-256 of ``guesses.npy``.
    """

    scores: TeacherMeasures
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
    return (kept.scores, guesses) if guesses.shape == (kept.scores.test[SAMPLES],) else None


def write_measures(folder: Path, measures: TeacherMeasures, guesses: Guesses) -> None:
    """Keep what was measured of a teacher."""
    make_folder(folder)
    buffer = io.BytesIO()
    np.save(buffer, guesses, allow_pickle=False)
    kept = _Kept(scores=measures, guesses=hashlib.sha256(buffer.getvalue()).hexdigest())
    atomic_write(folder / "guesses.npy", buffer.getvalue())
    atomic_write(folder / "measures.json", sealed(kept.model_dump(mode="json")).encode())


ADVICE_FILE = "advice.json"
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
    kept = folder / ADVICE_FILE
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
    def sentence_of(label: int, said: int) -> str:
        own = f" ({_name(recorded[said])} in its own file)" if said < len(recorded) else ""
        return f"for {_name(data.classes[label])} it says {_name(data.classes[said])}{own}"

    moved = [sentence_of(*one) for one in order.moved[:_SHOWN]]
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


def admit(
    ref: TeacherRef,
    data: LoadedData,
    measures: TeacherMeasures,
    guesses: Classes,
    advice: Advice,
    *,
    trusted: bool,
    say: Callable[[str], None],
) -> TeacherMeasures:
    """The measures of a teacher that may teach, which say where it was vouched for.

    By the test split, because tune may hold a dozen samples; this refuses ignorance, and chooses between no two
    teachers.

    Args:
        ref: the teacher.
        data: the dataset.
        measures: what was measured of it.
        guesses: its classes on test.
        advice: what seems wrong with it.
        trusted: whether it may teach though it is not above chance.
        say: takes what a person should know.

    Raises:
        KdzooError: its guesses say nothing of the labels, and nobody vouches for it.
    """
    labels = data.labels("test").numpy()
    above = knows(guesses, labels)
    if not above:
        right, expected = int((guesses == labels).sum()), expected_hits(guesses, labels)
        compared = "no" if right <= expected else "not surely"
        finding = (
            f"the teacher {ref.model} scores {100 * right / len(labels):.1f}% on test, {compared} better than "
            f"chance ({100 * expected / len(labels):.1f}%, its own guesses in random order)"
        )
        if not trusted:
            raise KdzooError(f"{finding}; {_mend(ref, advice)}, or use it anyway (--trust-teacher)")
        say(f"warning: {finding}; it is used anyway, because of --trust-teacher")
    for line in advice.lines:
        say(f"warning: the teacher {ref.model} on {data.ref.name}: {line}")
    return measures if above else measures.model_copy(update={"vouched": True})


def _mend(ref: TeacherRef, advice: Advice) -> str:
    if advice.order:
        return f"{advice.order}; bring its last layer into the order that kdzoo data shows, give other weights"
    if advice.normalisation:
        return f"{advice.normalisation}; set that input, give other weights (--teacher-weights)"
    if ref.weights == "file":
        return "give other weights (--teacher-weights)"
    if ref.weights == "pretrained":
        return "train it (--teacher-weights train), give other weights"
    return "train it longer (--teacher-epochs), give other weights (--teacher-weights)"
