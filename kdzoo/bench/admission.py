"""Whether a measured teacher may teach, and the sentence that refuses one that may not."""

from __future__ import annotations

from collections.abc import Callable

from kdzoo.bench.advice import Advice
from kdzoo.bench.knowledge import Classes, expected_hits, knows
from kdzoo.cell import TeacherRef
from kdzoo.data.load import LoadedData
from kdzoo.errors import KdzooError
from kdzoo.record import TeacherMeasures


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
        compared = "no" if measures.test.correct1 <= expected_hits(guesses, labels) else "not surely"
        chance = 100 * expected_hits(guesses, labels) / len(labels)
        finding = (
            f"the teacher {ref.model} scores {measures.test.top1:.1f}% on test, {compared} better than chance "
            f"({chance:.1f}%, its own guesses in random order)"
        )
        if not trusted:
            raise KdzooError(f"{finding}; {_mend(ref, advice)}, or vouch for it (--trust-teacher)")
        say(f"warning: {finding}; it teaches all the same, because --trust-teacher vouches for it")
    for line in advice.lines:
        say(f"warning: the teacher {ref.model} on {data.ref.name}: {line}")
    return measures if above else measures.model_copy(update={"vouched": True})


def _mend(ref: TeacherRef, advice: Advice) -> str:
    if advice.order:
        return f"{advice.order}; bring its last layer into the order that kdzoo data shows, give other weights"
    if advice.normalisation:
        return f"{advice.normalisation}; give it that input, give other weights (--teacher-weights)"
    if ref.weights == "file":
        return "give other weights (--teacher-weights)"
    if ref.weights == "pretrained":
        return "train it (--teacher-weights train), give other weights"
    return "train it longer (--teacher-epochs), give other weights (--teacher-weights)"
