"""A board summed up over its pairs: mean ranks, means and tests, of the strategies that are complete on every pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from kdzoo.board.labels import Facts, distinguishing, short_words
from kdzoo.board.standings import (
    FEWEST_SUMMED,
    FrameRow,
    RowKind,
    Standing,
    is_default_that_won,
    ranked,
    scores_of,
    standings_of,
    won_a_study,
)
from kdzoo.board.stats import Friedman, critical_difference, friedman, inseparable
from kdzoo.measures import Measure

if TYPE_CHECKING:
    from kdzoo.board.table import Board

FEWEST_TESTED = 5
"""Pairs below which there is no test: from fewer, ranks show next to nothing, whatever p says."""


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
    """All pairs that share protocol, evaluation and the measure that ranks, and of their rows those of one kind.

    Attributes:
        protocol, evaluation, main: what they share.
        kind: ``default`` or ``tuned`` rows, which are ranked apart; empty where no study concerns any row.
        blocks: at least two; of the tuned rows, the pairs that have any.
        standings: at least two; the ranked ones first, best first.
        friedman: the test over the ranked strategies; none below five blocks.
        critical_difference: Nemenyi's, in ranks; None where there is no Friedman test.
        alike: names of strategies that it does not separate, a set each; a strategy may be in several.
        unmoved: among tuned rows, the strategies whose default won its study, with the numbers of the blocks, from 1,
            where it did: there the default's row stands.
    """

    protocol: int
    evaluation: int
    main: Measure
    kind: RowKind
    blocks: tuple[Block, ...]
    standings: tuple[Standing, ...]
    friedman: Friedman
    critical_difference: float | None
    alike: tuple[tuple[str, ...], ...]
    unmoved: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def tested(self) -> bool:
        """Whether there are pairs enough for tests of the ranks."""
        return len(self.blocks) >= FEWEST_TESTED


def overall(board: Board) -> list[Overall]:
    """What a board says over its pairs, for each protocol and evaluation; nothing below two pairs or strategies.

    Where studies concern rows, default and tuned rows are summed up apart: together, a default that won its study
    would be two strategies that always tie. A strategy that no study concerns, as ``ce`` often is, stands in both.

    A strategy is told apart by its label and variant. Its parameters may differ from pair to pair, as tuned ones do.
    Only where one pair has several rows of the same label and variant, each set of parameters is a strategy of its
    own. A row of no study stands among the defaults if its parameters are the defaults of a study elsewhere.

    Rows without a teacher are of no pair, unless they stand with every pair of their student.
    """
    shared: dict[tuple[int, int, str], list[FrameRow]] = defaultdict(list)
    for row in board.rows:
        if row["teacher"]:
            main = board.mains[row["group"]]
            shared[row["protocol"], row["evaluation"], main.name].append(row)
    found = []
    for key in sorted(shared):
        kinds: tuple[RowKind, ...] = ("default", "tuned") if any(row["variant"] for row in shared[key]) else ("",)
        found += [_overall(board, *key, kind, shared[key]) for kind in kinds]
    return [one for one in found if len(one.blocks) >= FEWEST_SUMMED and len(one.standings) >= FEWEST_SUMMED]


def _overall(
    board: Board, protocol: int, evaluation: int, measure: str, kind: RowKind, rows: Sequence[FrameRow]
) -> Overall:
    main = next(one for one in board.mains if one.name == measure)
    named = sorted(_by_block(board, rows), key=itemgetter(0))
    named = [(text, block) for text, block in named if kind != "tuned" or any(map(won_a_study, block))]
    unmoved: dict[str, list[int]] = defaultdict(list)
    for number, (_, block) in enumerate(named if kind == "tuned" else [], start=1):
        for name in sorted({row["strategy"] for row in block if is_default_that_won(row)}):
            unmoved[name].append(number)
    standings, complete = ranked(standings_of([block for _, block in named], main, kind), main)
    tested = _tested(complete, len(named), main)
    difference = None if tested.chi2 is None else critical_difference(len(complete), len(named))
    together = () if difference is None else inseparable([one.mean_rank or 0.0 for one in complete], difference)
    return Overall(
        protocol=protocol,
        evaluation=evaluation,
        main=main,
        kind=kind,
        blocks=tuple(_block(text, block[0]) for text, block in named),
        standings=tuple(standings),
        friedman=tested,
        critical_difference=difference,
        alike=tuple(tuple(complete[place].text for place in places) for places in together),
        unmoved=tuple((name, tuple(numbers)) for name, numbers in sorted(unmoved.items())),
    )


def _tested(complete: Sequence[Standing], blocks: int, main: Measure) -> Friedman:
    if blocks < FEWEST_TESTED:
        return Friedman(blocks, len(complete), note=f"it needs at least {FEWEST_TESTED} pairs")
    return friedman(main.sign * scores_of(complete, blocks))


def _by_block(board: Board, rows: Sequence[FrameRow]) -> list[tuple[str, list[FrameRow]]]:
    """The rows of each pair in one context, under a name that no other pair has."""
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    contexts = [numbers.setdefault(tuple(facts.items()), len(numbers)) for facts in board.contexts]
    found: dict[tuple[int, str, str], list[FrameRow]] = defaultdict(list)
    for row in rows:
        found[contexts[row["group"]], row["teacher"], row["student"]].append(row)
    texts = _block_texts([(rows[0], _block_facts(board, rows[0])) for rows in found.values()])
    return list(zip(texts, found.values(), strict=True))


def _block_facts(board: Board, row: FrameRow) -> Facts:
    """What may tell apart blocks of the same name, the most readable first."""
    names = ("recipe", "init", "data", "recipe_hash", "fingerprint")
    # The numbers of samples are the group's, because the frame has no column for them.
    row_facts = row | {"data": board.groups[row["group"]].data}
    return {name: str(row_facts[name]) for name in names} | board.contexts[row["group"]]


def _block_texts(blocks: Sequence[tuple[FrameRow, Facts]]) -> list[str]:
    """A name for each block: dataset and pair, and for namesakes what tells them apart, in brackets."""
    names = [f"{row['dataset']} {row['img_size']}: {row['teacher']} -> {row['student']}" for row, _ in blocks]
    namesakes: dict[str, list[Facts]] = defaultdict(list)
    for name, (_, facts) in zip(names, blocks, strict=True):
        namesakes[name].append(facts)
    apart = {name: distinguishing(everyone) for name, everyone in namesakes.items()}
    return [
        f"{name} ({short_words(facts, apart[name])})" if apart[name] else name
        for name, (_, facts) in zip(names, blocks, strict=True)
    ]


def _block(text: str, row: FrameRow) -> Block:
    return Block(text, row["dataset"], row["recipe"], row["init"], row["teacher"], row["student"])
