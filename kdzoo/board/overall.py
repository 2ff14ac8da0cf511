"""A board summed up over its pairs: mean ranks, means and tests, of the strategies that are complete on every pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from kdzoo.board.labels import short_words, telling
from kdzoo.board.ranks import Friedman, alike, critical_difference, friedman
from kdzoo.board.standings import FEWEST, Standing, Values, ranked, scores_of, standings_of, stands_twice
from kdzoo.board.table import Board


@dataclass(frozen=True)
class Block:
    """A pair in one context: what ranks the strategies.

    Attributes:
        text: what it is called; unlike every other block's.
        dataset, recipe, init, teacher, student: as in the frame.
    """

    text: str
    dataset: str
    recipe: str
    init: str
    teacher: str
    student: str


@dataclass(frozen=True)
class Overall:
    """All pairs that share protocol and evaluation.

    Attributes:
        protocol, evaluation: what they share.
        blocks: at least two.
        standings: at least two; the ranked ones first, best first.
        friedman: the test over the ranked strategies.
        critical_difference: Nemenyi's, in ranks; None where there is no Friedman test.
        alike: names of strategies that it does not separate, a set each; a strategy may be in several.
        twice: strategies whose default won its study, with the numbers of the blocks, from 1, where it did: there one
            row stands as default and as tuned.
    """

    protocol: int
    evaluation: int
    blocks: tuple[Block, ...]
    standings: tuple[Standing, ...]
    friedman: Friedman
    critical_difference: float | None
    alike: tuple[tuple[str, ...], ...]
    twice: tuple[tuple[str, tuple[int, ...]], ...] = ()


def overall(board: Board) -> list[Overall]:
    """What a board says over its pairs, one for each protocol and evaluation; none below two pairs or strategies.

    A strategy is told apart by its label and variant. Its parameters may differ from pair to pair, as tuned ones do.
    Only where one pair has several rows of the same label and variant, each set of parameters is a strategy of its
    own. A default that won its study stands as default and as tuned. A row of no study stands among the defaults if
    its parameters are the defaults of a study elsewhere.

    Rows without a teacher are of no pair, unless they stand with every pair of their student.
    """
    frame = board.frame.astype(object)
    rows = cast(list[Values], frame.where(pd.notna(frame), None).to_dict("records"))
    shared: dict[tuple[int, int], list[Values]] = defaultdict(list)
    for row in rows:
        if row["teacher"]:
            shared[row["protocol"], row["evaluation"]].append(row)
    found = [_overall(board, *key, shared[key]) for key in sorted(shared)]
    return [one for one in found if len(one.blocks) >= FEWEST and len(one.standings) >= FEWEST]


def _overall(board: Board, protocol: int, evaluation: int, rows: Sequence[Values]) -> Overall:
    by_block: dict[tuple[str, ...], list[Values]] = defaultdict(list)
    for row in rows:
        by_block[_block_key(board, row)].append(row)
    named = sorted(zip(_block_texts(list(by_block)), by_block, strict=True))
    twice: dict[str, list[int]] = defaultdict(list)
    for number, (_, key) in enumerate(named, start=1):
        for name in sorted({row["strategy"] for row in by_block[key] if stands_twice(row)}):
            twice[name].append(number)
    standings, complete = ranked(standings_of([by_block[key] for _, key in named]))
    tested = friedman(scores_of(complete, len(named)))
    difference = None if tested.chi2 is None else critical_difference(len(complete), len(named))
    together = () if difference is None else alike([one.mean_rank or 0.0 for one in complete], difference)
    return Overall(
        protocol=protocol,
        evaluation=evaluation,
        blocks=tuple(_block(text, by_block[key][0]) for text, key in named),
        standings=tuple(standings),
        friedman=tested,
        critical_difference=difference,
        alike=tuple(tuple(complete[place].text for place in places) for places in together),
        twice=tuple((name, tuple(numbers)) for name, numbers in sorted(twice.items())),
    )


_BLOCK_FACTS = ("recipe", "init", "data", "recipe_hash", "fingerprint")
"""What may tell apart blocks of the same name, the most readable first."""


def _block_key(board: Board, row: Values) -> tuple[str, ...]:
    # The numbers of samples are the group's, because the frame has no column for them.
    facts = row | {"data": board.groups[row["group"]].data}
    return tuple(str(facts[name]) for name in ("dataset", "img_size", "teacher", "student", *_BLOCK_FACTS))


def _block_texts(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """A name for each block: dataset and pair, and for namesakes what tells them apart, in brackets."""
    names = ["{} {}: {} -> {}".format(*key[:4]) for key in keys]
    facts = [dict(zip(_BLOCK_FACTS, key[4:], strict=True)) for key in keys]
    namesakes: dict[str, list[dict[str, str]]] = defaultdict(list)
    for name, one in zip(names, facts, strict=True):
        namesakes[name].append(one)
    apart = {name: telling(everyone) for name, everyone in namesakes.items()}
    return [
        f"{name} ({short_words(one, apart[name])})" if apart[name] else name
        for name, one in zip(names, facts, strict=True)
    ]


def _block(text: str, row: Values) -> Block:
    return Block(text, row["dataset"], row["recipe"], row["init"], row["teacher"], row["student"])
