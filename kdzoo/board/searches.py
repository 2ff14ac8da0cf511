"""Studies -> the rows that they concern, and what a board must say of those that gave none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kdzoo.board.labels import params_text
from kdzoo.board.titles import Members, img_size_text
from kdzoo.board.tuned import UNTUNED, Budget, Tuning, budget, study_labels
from kdzoo.cell import Cell, PairKey, RowKey
from kdzoo.errors import counted
from kdzoo.foreign import MOST_OF_A_REASON, bounded
from kdzoo.study import Study


class Tunings:
    """What studies say of rows. Where a row was measured by several evaluations, they say it of each.

    Args:
        rows: the keys of all rows.
        studies: in any order, read once; of two of one id that which came further counts.

    Attributes:
        studies: all of them, the smallest budget first.
    """

    def __init__(self, rows: Collection[RowKey], studies: Iterable[Study]) -> None:
        self.studies = _distinct(studies)
        self._rows = rows
        self._measured: dict[PairKey, list[PairKey]] = defaultdict(list)
        self._at: dict[PairKey, list[Study]] = defaultdict(list)
        self._won: dict[RowKey, list[Study]] = defaultdict(list)
        self._default: set[RowKey] = set()
        self._apart: dict[RowKey, str] = {}
        if self.studies:
            self._match()
            self._tell_apart()

    def of(self, key: RowKey) -> Tuning:
        """What they say of a row."""
        if key not in self._won and key not in self._default:
            return UNTUNED
        return Tuning(tuple(self._won.get(key, ())), key in self._default, self._apart.get(key, ""))

    def at(self, pair: PairKey) -> list[Study]:
        """The studies of a pair in a context, the smallest budget first; its newest evaluation has them."""
        newest = max((each.evaluation for each in self._measured[_unmeasured(pair)]), default=0)
        return self._at.get(pair, []) if pair.evaluation == newest else []

    def faults(self, study: Study, pair: PairKey) -> list[str]:
        """Why a study has no winner, or its winner no row of a pair, and how many of its trials failed."""
        untrained = []
        for winner in study.finals([0]):
            setting = winner.row_key(0).setting
            if not any(RowKey(*each, setting) in self._rows for each in self._measured[_unmeasured(pair)]):
                untrained.append(_untrained(study, {**winner.strategy.params, **winner.recipe_changes}))
        return [*_unwon(study), *untrained]

    def _match(self) -> None:
        # A study may call the recipes otherwise than the records of its winner do.
        nameless: dict[PairKey, list[PairKey]] = defaultdict(list)
        for pair, key in {key.pair: key for key in self._rows}.items():
            self._measured[_unmeasured(pair)].append(pair)
            nameless[Cell.of_row(key).row_key(0, names=False).pair].append(pair)
        for study in self.studies:
            first = study.plan.final(study.plan.defaults(), 0).row_key(0, names=False)
            winners = {cell.row_key(0).setting for cell in study.finals([0])}
            for pair in nameless.get(first.pair, []):
                self._at[pair].append(study)
                if (default := RowKey(*pair, first.setting)) in self._rows:
                    self._default.add(default)
                for setting in winners:
                    if (winner := RowKey(*pair, setting)) in self._rows:
                        self._won[winner].append(study)

    def _tell_apart(self) -> None:
        namesakes: dict[Hashable, list[RowKey]] = defaultdict(list)
        for key, studies in self._won.items():
            namesakes[key.pair, studies[0].plan.strategy.version].append(key)
        for keys in namesakes.values():
            if len(keys) > 1:
                labels = study_labels([study for key in keys for study in self._won[key]])
                self._apart |= {
                    key: "; ".join(filter(None, (labels[one.id] for one in self._won[key]))) for key in keys
                }


def _distinct(studies: Iterable[Study]) -> list[Study]:
    best: dict[str, tuple[tuple[bool, int, str], Study]] = {}
    for study in studies:
        ended = sum(trial.state != "asked" for trial in study.trials)
        reach = (study.finished, ended, study.to_json())
        if study.id not in best or reach > best[study.id][0]:
            best[study.id] = reach, study
    return sorted((study for _, study in best.values()), key=lambda study: (budget(study), study.seconds, study.id))


def _unwon(study: Study) -> Iterator[str]:
    states = Counter(trial.state for trial in study.trials)
    failed = [bounded(trial.reason, MOST_OF_A_REASON) for trial in study.trials if trial.state == "failed"]
    trials = counted(study.plan.length, "trial")
    if not study.finished:
        yield f"{states.total() - states['asked']} of {trials} ended so far, so there is no winner yet"
    elif study.best is None:
        reason = failed[0] if failed else bounded(study.trials[0].reason, MOST_OF_A_REASON)
        yield f"none of {trials} is done ({states['failed']} failed, {states['pruned']} pruned): {reason}"
        return
    if failed:
        yield f"{len(failed)} of {trials} failed: {failed[0]}"


def _untrained(study: Study, params: dict[str, Any]) -> str:
    return f"the winner of {counted(len(study.trials), 'trial')} has no row: {params_text(params)}"


def _unmeasured(pair: PairKey) -> PairKey:
    """The pair whatever evaluation measured it."""
    return pair._replace(evaluation=0)


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
    labels = {(key, line.strategy.version): line.label for key, line in members if not line.balanced}
    found = []
    for key in dict.fromkeys(key for key, _ in members):
        for study in tunings.at(key):
            label = labels.get((key, study.plan.strategy.version))
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
    pair = f"{plan.data.name} {img_size_text(plan.data.img_size)}: {plan.teacher.model} -> {plan.student}"
    return f"{pair}: study {study.id} of {plan.strategy.name} has no row"
