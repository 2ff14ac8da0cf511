"""The lines of a board, and which line each is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kdzoo.board.identity import Setting, strategy_key
from kdzoo.board.labels import OWN_DISTRIBUTION
from kdzoo.board.rows import Row
from kdzoo.board.tuning import Budget, Tuning
from kdzoo.cell import StrategyRef
from kdzoo.measures import TOP1, Measure

BASELINES = ("ce", "soft")
"""The strategies that the others are compared with."""


@dataclass
class Line:
    """One line of a board: a row on one pair.

    Attributes:
        row: its seeds.
        setting: what it tries.
        tuning: what studies say of it.
        text: what the line is called, variant and parameters included.
        label: what the strategy is called.
        params: its parameters as JSON.
        values: the line's columns, as far as they are known.
        vouched: whether its teacher taught only because somebody vouched for it.
        main: the measure that ranks it.
    """

    row: Row
    setting: Setting
    tuning: Tuning
    text: str
    label: str
    params: str
    values: dict[str, Any] = field(default_factory=dict)
    vouched: bool = False
    main: Measure = TOP1

    @property
    def strategy(self) -> StrategyRef:
        """The strategy with its parameters."""
        return self.setting.strategy


def baselines_of(lines: Sequence[Line], name: str) -> list[Line | None]:
    """What each line of a pair is compared with: never chosen by its result.

    It is the line of that name which no search made: of several that of kdzoo, then a study's trial 0, then that with
    most seeds, then by parameters. A line that a search made is compared with the line of that name which a search of
    the same budget made, if there is one; the winners of the baseline's own searches are not, so that what tuning
    gave the baseline can be seen.
    """
    named = sorted((line for line in lines if line.strategy.name == name), key=_precedence)
    plain = next((line for line in named if line.tuning.plain and not line.setting.changes), None)
    tuned = [(line, line.tuning.budgets) for line in named if line.tuning.won]
    return [_tuned_alike(line, tuned) or plain for line in lines]


def _tuned_alike(line: Line, tuned: Sequence[tuple[Line, set[Budget]]]) -> Line | None:
    budgets = line.tuning.budgets
    own = strategy_key(line.strategy)
    return next((other for other, theirs in tuned if budgets & theirs and strategy_key(other.strategy) != own), None)


def _precedence(line: Line) -> tuple[bool, bool, int, str, str]:
    foreign = line.strategy.distribution != OWN_DISTRIBUTION
    return foreign, not line.tuning.default, -len(line.row.done), line.label, line.params
