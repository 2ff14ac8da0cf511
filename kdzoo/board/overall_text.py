"""The words of a board's summaries over pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from kdzoo.board.overall import FEWEST_TESTED, Overall
from kdzoo.board.printed import NONE, PrintedColumn, RowValues, number
from kdzoo.board.standings import Standing
from kdzoo.board.stats import SIGNIFICANCE, Friedman
from kdzoo.measures import Measure

_MOST_NAMED = 2
"""Pairs that are named beside their numbers."""

_ENOUGH_BLOCKS, _ENOUGH_STRATEGIES = 10, 5
"""Numbers above which Demsar (2006, JMLR 7: 1-30) calls the approximations of Friedman's test good."""


@dataclass(frozen=True)
class OverallText:
    """The printed form of one :class:`Overall`.

    Attributes:
        title: its heading.
        pairs: the pairs, each with its number.
        columns, rows: the table.
        lacking: for each strategy that is left out, why.
        findings: the tests in words.
    """

    title: str
    pairs: list[str]
    columns: Sequence[PrintedColumn]
    rows: list[RowValues]
    lacking: list[str]
    findings: list[str]


def overall_text(overall: Overall) -> OverallText:
    """The words of one summary over pairs."""
    return OverallText(
        title=f"{scope(overall)} (protocol {overall.protocol}, evaluation {overall.evaluation})",
        pairs=[block.text for block in overall.blocks],
        columns=_columns(overall.main),
        rows=[{"standing": standing, "bold": standing.diff_ce.excludes_zero} for standing in overall.standings],
        lacking=[_lacking(standing, overall) for standing in overall.standings if not standing.complete],
        findings=[*_tests(overall), *_unmoved(overall)],
    )


def scope(overall: Overall) -> str:
    """``Over 5 pairs``, and which rows where not all are."""
    return f"Over {len(overall.blocks)} pairs" + (f", {overall.kind} rows" if overall.kind else "")


def overall_notes(overalls: Sequence[Overall], emphasis: str) -> list[str]:
    """How the numbers over pairs were made; nothing where there are none.

    Args:
        overalls: the board's summaries.
        emphasis: how a row is marked if its interval excludes 0.
    """
    if not overalls:
        return []
    titles = " or ".join(main.title for main in dict.fromkeys(one.main for one in overalls))
    lines = [
        f"mean rank: rank by mean {titles} within each pair, averaged over all pairs; ties share their mean rank; only"
        " strategies with every seed finished on every pair are ranked",
        f"mean {titles}, mean vs ce: average of the pairs' means, with its 95% t interval over the pairs; {emphasis}"
        " where the interval excludes 0",
    ]
    if any(standing.diff_ce.note == "n<3" for one in overalls for standing in one.standings):
        lines.append("n<3 over pairs: no interval, because there are fewer than 3 pairs")
    if any(one.kind for one in overalls):
        lines.append(
            "default rows and tuned rows are ranked separately, because a default that won its search would count as"
            " two strategies that always tie; strategies without a search are ranked in both; the summary of tuned rows"
            " covers the pairs that have tuned rows"
        )
    if any(one.critical_difference is not None for one in overalls):
        lines.append(
            "Friedman test: chi-square corrected for ties, F of Iman and Davenport; critical difference of Nemenyi;"
            " both as in Demsar 2006 (JMLR 7); they assume independent pairs, and pairs that share a dataset, a teacher"
            " or a student are only partly independent"
        )
    return lines


def _standing(row: RowValues) -> Standing:
    return cast(Standing, row["standing"])


def _pairs(row: RowValues) -> str:
    standing = _standing(row)
    return f"{sum(not lack for lack in standing.lacking)}/{len(standing.lacking)}"


def _seeds(row: RowValues) -> str:
    seeds = _standing(row).seeds
    return str(min(seeds)) if min(seeds) == max(seeds) else f"{min(seeds)}-{max(seeds)}"


def _interval(row: RowValues, digits: int) -> str:
    found = _standing(row).diff_ce
    return found.note or f"[{number(found.low, digits, sign=True)}, {number(found.high, digits, sign=True)}]"


def _columns(main: Measure) -> list[PrintedColumn]:
    digits = main.digits
    return [
        PrintedColumn("mean rank", "right", lambda row: number(_standing(row).mean_rank)),
        PrintedColumn("strategy", "left", lambda row: _standing(row).text),
        PrintedColumn("pairs", "right", _pairs),
        PrintedColumn("seeds", "right", _seeds),
        PrintedColumn(f"mean {main.heading}", "right", lambda row: number(_standing(row).score, digits)),
        PrintedColumn("mean vs ce", "right", lambda row: number(_standing(row).diff_ce.mean, digits, sign=True)),
        PrintedColumn("95% interval", "left", lambda row: _interval(row, digits)),
    ]


def _lacking(standing: Standing, overall: Overall) -> str:
    """``at: 1 failed of 3 seeds on pair 2 (digits 16x16: vit -> resnet8); no row on pairs 3, 4, 5``."""
    pairs: dict[str, list[int]] = defaultdict(list)
    for pair, reason in enumerate(standing.lacking, start=1):
        if reason:
            pairs[reason].append(pair)
    reasons = (
        f"{reason} on pair{'s' * (len(numbers) > 1)} {_called(numbers, overall)}" for reason, numbers in pairs.items()
    )
    return f"{standing.text}: {'; '.join(reasons)}"


def _called(numbers: Sequence[int], overall: Overall) -> str:
    """Pairs by their numbers, and by their names where they are few."""
    named = len(numbers) <= _MOST_NAMED
    return ", ".join(f"{number} ({overall.blocks[number - 1].text})" if named else str(number) for number in numbers)


def _tests(overall: Overall) -> list[str]:
    if overall.tested:
        return [_friedman(overall.friedman), *_nemenyi(overall)]
    return [
        f"{len(overall.blocks)} pairs are too few for conclusions from ranks: no test below {FEWEST_TESTED} pairs, and"
        " the order may be chance"
    ]


def _unmoved(overall: Overall) -> list[str]:
    """Which tuned rows are the default's."""
    if not overall.unmoved:
        return []
    names = "; ".join(
        f"{name} (pair{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))})" for name, numbers in overall.unmoved
    )
    return [f"the default won its search, so its row counts as tuned: {names}"]


def _friedman(test: Friedman) -> str:
    start = f"Friedman test over {test.blocks} pairs and {test.strategies} ranked strategies: "
    if test.chi2 is None:
        return f"{start}none, because {test.note}"
    chi2 = f"chi-square {number(test.chi2)} ({test.freedom} degrees of freedom), {_p(test.p)}"
    f = test.note if test.f is None else f"F {number(test.f)} ({test.freedom} and {test.f_freedom}), {_p(test.f_p)}"
    enough = test.blocks > _ENOUGH_BLOCKS and test.strategies > _ENOUGH_STRATEGIES
    rough = f"; p is a rough approximation up to {_ENOUGH_BLOCKS} pairs or {_ENOUGH_STRATEGIES} strategies"
    return f"{start}{chi2}; {f}{'' if enough else rough}"


def _nemenyi(overall: Overall) -> list[str]:
    if overall.critical_difference is None:
        return []
    start = f"Nemenyi's critical difference at {SIGNIFICANCE}: {number(overall.critical_difference)} ranks; "
    if not overall.alike:
        return [f"{start}all strategies differ"]
    groups = "; ".join(", ".join(names) for names in overall.alike)
    return [f"{start}no significant difference among: {groups}"]


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
