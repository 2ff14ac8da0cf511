"""Studies -> the rows that they concern, and what a board must say of those that gave none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator

from kdzoo.board.identity import Context, place_key, recipe_changes, strategy_key
from kdzoo.board.labels import params_text
from kdzoo.board.rows import Identity, Place, RowKey, Rows
from kdzoo.board.tuning import UNTUNED, Tuning, budget, study_labels
from kdzoo.cell import Cell
from kdzoo.errors import counted
from kdzoo.foreign import MOST_OF_A_REASON, bounded
from kdzoo.study import Study


class Tunings:
    """What studies say of rows. Where a row was measured by several evaluations, they say it of each.

    Args:
        rows: all rows.
        studies: in any order, read once; of two of one id that which came further counts.

    Attributes:
        studies: all of them, the smallest budget first.
    """

    def __init__(self, rows: Rows, studies: Iterable[Study]) -> None:
        self.studies = _distinct(studies)
        self._rows = rows
        self._evaluations: dict[Place, set[int]] = defaultdict(set)
        self._at: dict[Place, list[Study]] = defaultdict(list)
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

    def at(self, place: Place, evaluation: int) -> list[Study]:
        """The studies of a pair in a context, the smallest budget first; its newest evaluation has them."""
        studies = self._at.get(place, [])
        return studies if studies and evaluation == max(self._evaluations[place]) else []

    def faults(self, study: Study, place: Place) -> list[str]:
        """Why a study has no winner, or its winner no row at a place, and how many of its trials failed."""
        winner = study.finals([0])
        lacks = bool(winner) and not self._keys(place, winner[0])
        return [*_unwon(study), *([_untrained(study)] if lacks else [])]

    def _match(self) -> None:
        places: dict[Hashable, list[Place]] = defaultdict(list)
        for identity, evaluation in self._rows.rows:
            place = Place(*identity[:3])
            if place not in self._evaluations:
                places[self._rows.place_key(place)].append(place)
            self._evaluations[place].add(evaluation)
        for study in self.studies:
            first = study.plan.final(study.plan.defaults(), 0)
            context = Context(first.data, first.recipe, first.init, first.protocol)
            for place in places.get(place_key(context, first.student, first.teacher), []):
                self._at[place].append(study)
                self._default.update(self._keys(place, first))
                for cell in study.finals([0]):
                    for key in self._keys(place, cell):
                        self._won[key].append(study)

    def _keys(self, place: Place, cell: Cell) -> list[RowKey]:
        """The rows of a cell at a place."""
        setting = self._rows.find_setting(cell)
        if setting is None:
            return []
        keys = (RowKey(Identity(*place, setting), evaluation) for evaluation in sorted(self._evaluations[place]))
        return [key for key in keys if key in self._rows.rows]

    def _tell_apart(self) -> None:
        namesakes: dict[Hashable, list[RowKey]] = defaultdict(list)
        for key, studies in self._won.items():
            namesakes[key.evaluation, key.identity[:3], strategy_key(studies[0].plan.strategy)].append(key)
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


def _untrained(study: Study) -> str:
    winner = study.finals([0])[0]
    params = params_text({**winner.strategy.params, **recipe_changes(winner)})
    return f"the winner of {counted(len(study.trials), 'trial')} has no row: {params}"
