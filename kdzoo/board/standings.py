"""The strategies of a board over its pairs: who stands in how many of them, how high, and how far from ``ce``."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdzoo.board.labels import params_text
from kdzoo.board.stats import Estimate, estimate, rank_within_blocks
from kdzoo.measures import Measure

FEWEST_SUMMED = 2
"""Pairs, and strategies, below which there is nothing to sum up."""

_DEFAULT = "default"

RowKind = Literal["", "default", "tuned"]
"""Rows that are ranked together; empty where no study concerns any row."""

FrameRow = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """One strategy over all blocks.

    A figure over the blocks is None unless every block has its part: nothing is averaged over fewer blocks.

    Attributes:
        text: what it is called.
        strategy, variant: as in the frame.
        params: its parameters as text, only where strategy and variant name several rows of a block.
        seeds: seeds done in each block.
        scores: mean of the main measure in each block; None where there is no row, or where a seed of it lacks.
        lacking: for each block why it has no score; empty where it has.
        mean_rank: mean over the blocks of its place among the ranked strategies.
        score: mean of the scores.
        diff_ce: mean over the blocks of the mean difference to ce, with its t interval and test; n is blocks.
    """

    text: str
    strategy: str
    variant: str
    params: str
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]
    lacking: tuple[str, ...]
    mean_rank: float | None
    score: float | None
    diff_ce: Estimate

    @property
    def complete(self) -> bool:
        """Whether it has a score in every block, and so is ranked."""
        return not any(self.lacking)


class _Entrant(NamedTuple):
    """Who is ranked; the parameters are empty unless they are needed to tell two rows of a block apart."""

    strategy: str
    variant: str
    params: str = ""


def standings_of(blocks: Sequence[Sequence[FrameRow]], main: Measure, kind: RowKind = "") -> list[Standing]:
    """The strategies in the order of their names, not ranked yet.

    Args:
        blocks: all rows of each block.
        main: the measure that ranks them.
        kind: which of them are ranked.
    """
    variants = _Variants(kind, blocks)
    found = [_by_variant(rows, variants) for rows in blocks]
    crowded = {key for block in found for key, rows in block.items() if len(rows) > 1}
    entered: dict[_Entrant, list[FrameRow | None]] = defaultdict(lambda: [None] * len(blocks))
    for place, block in enumerate(found):
        for key, rows in block.items():
            for row in rows:
                entered[_Entrant(*key, row["params"] if key in crowded else "")][place] = row
    called = [{_text(row): row for row in rows} for rows in blocks]
    return [_standing(entrant, entered[entrant], called, main) for entrant in sorted(entered)]


def ranked(standings: Sequence[Standing], main: Measure) -> tuple[list[Standing], list[Standing]]:
    """All standings with their mean ranks, the best first and the incomplete last; and the complete ones alone."""
    complete = [standing for standing in standings if standing.complete]
    rest = [standing for standing in standings if not standing.complete]
    if len(complete) >= FEWEST_SUMMED:
        means = rank_within_blocks(main.sign * scores_of(complete, len(complete[0].scores))).mean(axis=0)
        complete = [replace(one, mean_rank=float(mean)) for one, mean in zip(complete, means, strict=True)]
        complete.sort(key=lambda standing: standing.mean_rank or 0.0)
    return complete + rest, complete


def scores_of(standings: Sequence[Standing], blocks: int) -> NDArray[np.float64]:
    """blocks x standings."""
    return np.array([standing.scores for standing in standings], dtype=np.float64).reshape(len(standings), blocks).T


def won_a_study(row: FrameRow) -> bool:
    """Whether a row won a study."""
    return bool(_parts(row)[1])


def is_default_that_won(row: FrameRow) -> bool:
    """Whether a row is a default that won its study."""
    return all(_parts(row))


def _parts(row: FrameRow) -> tuple[bool, str]:
    """Whether a row is a study's default, and the variant that it has for having won one; empty if it won none."""
    first, _, rest = row["variant"].partition(", ")
    return (True, rest) if first == _DEFAULT else (False, row["variant"])


class _Variants:
    """Under which variant each row is ranked among those of a kind.

    Args:
        kind: which rows are ranked.
        blocks: all rows of each block.
    """

    def __init__(self, kind: RowKind, blocks: Sequence[Sequence[FrameRow]]) -> None:
        self._kind = kind
        rows = [row for block in blocks for row in block]
        self._defaults = {(row["strategy"], row["params"]) for row in rows if _parts(row)[0]}
        self._searched = {row["strategy"] for row in rows if row["variant"]}

    def of(self, row: FrameRow) -> str | None:
        """The variant by which a row is ranked; None where it is not."""
        default, won = _parts(row)
        if self._kind == "tuned":
            # What no study concerns anywhere has no other row to stand for it.
            return won or (None if row["strategy"] in self._searched else "")
        if default or (not won and (row["strategy"], row["params"]) in self._defaults):
            return _DEFAULT
        return None if won else ""


def _by_variant(rows: Sequence[FrameRow], variants: _Variants) -> dict[tuple[str, str], list[FrameRow]]:
    """The rows of a block that are ranked, by label and variant."""
    found: dict[tuple[str, str], list[FrameRow]] = defaultdict(list)
    for row in rows:
        variant = variants.of(row)
        if variant is not None:
            found[row["strategy"], variant].append(row)
    return found


def _standing(
    entrant: _Entrant, rows: Sequence[FrameRow | None], called: Sequence[dict[str, FrameRow]], main: Measure
) -> Standing:
    params = _params(entrant.params) if entrant.params else ""
    lacking = tuple(_lacks(row) for row in rows)
    scores = tuple(None if row is None or lack else row[main.name] for row, lack in zip(rows, lacking, strict=True))
    differences = [
        # A difference to a baseline that lacks seeds is not the whole pair's.
        None if row is None or lack or _lacks(named.get(row["diff_ce_to"])) else row["diff_ce"]
        for row, lack, named in zip(rows, lacking, called, strict=True)
    ]
    return Standing(
        text=" ".join(filter(None, (entrant.strategy, entrant.variant, params))),
        strategy=entrant.strategy,
        variant=entrant.variant,
        params=params,
        seeds=tuple(0 if row is None else row["done"] for row in rows),
        scores=scores,
        lacking=lacking,
        mean_rank=None,
        score=_mean(scores),
        diff_ce=_over_blocks(differences, [row for row in rows if row is not None]),
    )


def _text(row: FrameRow) -> str:
    """What ``diff_ce_to`` calls a row."""
    return " ".join(filter(None, (row["strategy"], row["variant"], _params(row["params"]))))


@lru_cache(4096)  # most stand in many rows
def _params(text: str) -> str:
    return params_text(json.loads(text))


def _lacks(row: FrameRow | None) -> str:
    """Why a row has no score for its block; empty where it has."""
    if row is None:
        return "no row"
    lacking = [f"{row[kind]} {kind}" for kind in ("failed", "missing") if row[kind]]
    return " and ".join(lacking) + f" of {row['seeds']} seeds" if lacking else ""


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _over_blocks(differences: Sequence[float | None], rows: Sequence[FrameRow]) -> Estimate:
    known = [difference for difference in differences if difference is not None]
    if len(known) == len(differences):
        return estimate(known)
    without = {row["diff_ce_note"] if row["diff_ce"] is None else "" for row in rows}
    reason = without.pop() if len(without) == 1 else ""
    return Estimate(0, None, note=reason or "incomplete")
