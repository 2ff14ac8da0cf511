"""What a table says of the studies behind it: the budget, whether it is equal, and which gave no row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kdzoo.board.identity import strategy_key
from kdzoo.board.lines import Line
from kdzoo.board.titles import PairKey, size_text
from kdzoo.board.tuning import Budget, budget
from kdzoo.board.tunings import Tunings
from kdzoo.study import Study

Members = Sequence[tuple[PairKey, Line]]


class Searched(NamedTuple):
    """A study of one of the pairs of a table, and what its strategy is called there."""

    key: PairKey
    study: Study
    label: str


def searched(tunings: Tunings, members: Members, *, rows_only: bool) -> list[Searched]:
    """The studies of a table's pairs, in the order of its lines.

    Args:
        tunings: what studies say.
        members: the table's lines.
        rows_only: leave out those of strategies without a line in the table.
    """
    labels = {(key, strategy_key(line.strategy)): line.label for key, line in members}
    found = []
    for key in dict.fromkeys(key for key, _ in members):
        for study in tunings.at(key.place, key.evaluation):
            label = labels.get((key, strategy_key(study.plan.strategy)))
            if label is not None or not rows_only:
                found.append(Searched(key, study, label or study.plan.strategy.name))
    return found


def budget_text(members: Members, studies: Sequence[Searched]) -> str:
    """The budget of a table's tuned rows, of its studies before there are such rows; empty without a study."""
    budgets = {one for _, line in members for one in line.tuning.budgets} or {budget(one.study) for one in studies}
    if not budgets:
        return ""
    shared = _shared(members) or (budgets if len(budgets) == 1 else set())
    if shared:
        return min(shared).words(each=" each")
    return "unequal: " + "; ".join(one.words() for one in sorted(budgets))


def unequal(members: Members) -> bool:
    """Whether a table's tuned rows had no budget in common."""
    return any(line.tuning.won for _, line in members) and not _shared(members)


def _shared(members: Members) -> set[Budget]:
    budgets = [line.tuning.budgets for _, line in members if line.tuning.won]
    return set.intersection(*budgets) if budgets else set()


def rowless(study: Study) -> str:
    """The remark on a study whose pair or strategy has no row on the board."""
    plan = study.plan
    pair = f"{plan.data.name} {size_text(plan.data.img_size)}: {plan.teacher.model} -> {plan.student}"
    return f"{pair}: study {study.id} of {plan.strategy.name} has no row"
