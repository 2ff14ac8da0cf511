"""What modifiers do in a combination: change the signals that its other parts see, and weigh the terms of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from kdzoo.declarations import alone, student_signals, teacher_signals
from kdzoo.errors import UsageError
from kdzoo.outputs import Batch, Outputs, only
from kdzoo.strategy import Strategy


def sees_modified(kind: type[Strategy], kinds: Iterable[type[Strategy]]) -> bool:
    """Whether a part asks the teacher for something that one of these modifies."""
    return not kind.modifies and any(teacher_signals(kind) & set(each.modifies) for each in kinds)


def check_modifiers(name: str, kinds: Sequence[type[Strategy]]) -> None:
    """Refuse modifiers of what nobody sees.

    Raises:
        UsageError: there is one.
    """
    others = [kind.name for kind in kinds if not kind.modifies]
    for kind in kinds:
        if kind.modifies and not others:
            raise UsageError(f"{name}: {alone(kind.name, kind.modifies)}")
        if kind.modifies and not any(sees_modified(other, [kind]) for other in kinds):
            raise UsageError(
                f"{name}: {kind.name} changes the teacher's {' and '.join(kind.modifies)}, for which "
                f"{' and '.join(others)} {'do' if len(others) > 1 else 'does'} not ask: leave {kind.name} out"
            )


def modified(
    modifiers: Iterable[Strategy], student: Outputs, teacher_of: Callable[[type[Strategy]], Outputs], batch: Batch
) -> tuple[Outputs, Outputs]:
    """Of both networks, the signals that the modifiers change, one after the other.

    Args:
        modifiers: in their order.
        student: the student's signals.
        teacher_of: what each of them is given of the teacher, before any modifier.
        batch: the labels and whatever else is known.
    """
    changed = Outputs({}), Outputs({})
    for modifier in modifiers:
        kind = type(modifier)
        mine = overlaid(only(student, student_signals(kind)), changed[0])
        theirs = overlaid(Outputs(teacher_of(kind).values), changed[1])
        found = modifier.modify(mine, theirs, batch)
        changed = _joined(changed[0], found[0], kind), _joined(changed[1], found[1], kind)
    return changed


def overlaid(outputs: Outputs, changed: Outputs) -> Outputs:
    """The signals, as they were changed where they were."""
    return Outputs({name: changed.values.get(name, value) for name, value in outputs.values.items()})


def _joined(changed: Outputs, found: Outputs, modifier: type[Strategy]) -> Outputs:
    """What was changed so far, and what one more modifier changes."""
    return Outputs({**changed.values, **only(found, modifier.modifies).values})


def term_weight(kind: type[Strategy], parts: Iterable[Strategy]) -> float:
    """By what the modifiers among the parts multiply the terms of one of them."""
    return math.prod(part.term_weight for part in parts if sees_modified(kind, [type(part)]))
