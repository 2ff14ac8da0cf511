"""Rows -> board: a tidy frame with one line per row, the groups that may be compared, and what went wrong in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from kdzoo.board.aggregate import fill_pair
from kdzoo.board.columns import DTYPES, Column, frame_columns, plain_rows
from kdzoo.board.labels import Facts, data_text, recipe_text
from kdzoo.board.overall import Overall, overall
from kdzoo.board.rows import BoardLine, BoardRows, SeedResult
from kdzoo.board.searches import Searched, Tunings, budget_text, rowless, searched, unequal
from kdzoo.board.titles import Titles, checked_grouping
from kdzoo.cell import NO_TEACHER, Cell, PairKey
from kdzoo.measures import COST, IMAGES, TOP1, Measure, in_order
from kdzoo.record import EVALUATION, Record
from kdzoo.study import Study


@dataclass(frozen=True)
class Problem:
    """Seeds of one row that have no result, or a study that gave no row, and why.

    Attributes:
        group: number of the row's group.
        row: the strategy with its parameters; of a study the strategy alone.
        teacher, student: labels of the pair.
        seeds: ascending; none for a study.
        kind: ``failed``, ``missing`` or, for a study, ``tuning``.
        reason: the failed records' own words, or what is wrong with the study.
    """

    group: int
    row: str
    teacher: str
    student: str
    seeds: tuple[int, ...]
    kind: Literal["failed", "missing", "tuning"]
    reason: str = ""


@dataclass(frozen=True)
class RowGroup:
    """Rows that may be compared: equal data, recipe, protocol and evaluation.

    Attributes:
        number: the ``group`` of its rows in the frame.
        title: the dataset and what the table is about.
        recipe: the recipe in words.
        data: numbers of samples in words.
        init, protocol, evaluation: as in the frame.
        outdated: whether the records were evaluated by an older version than this kdzoo's.
        seeds: all seeds that occur.
        apart: the recipe, where the dataset has several, and what tells it from the groups of the same title.
        tuning: the budget of its studies in words; empty without a study.
    """

    number: int
    title: str
    recipe: str
    data: str
    init: str
    protocol: int
    evaluation: int
    outdated: bool
    seeds: tuple[int, ...]
    apart: str
    tuning: str

    @property
    def full_title(self) -> str:
        """The title with what sets it apart."""
        return f"{self.title}, {self.apart}" if self.apart else self.title


@dataclass(frozen=True)
class Board:
    """Rows as a frame, with all that is said about them.

    Attributes:
        frame: one line a row.
        columns: what its columns are.
        groups: by their numbers.
        contexts: of each group, all that its rows share, by dotted names.
        mains: the measure that ranks the rows of each group, by its number.
        measures: all measures that its columns are of.
        problems, remarks: what went wrong, and what was odd.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    contexts: tuple[Facts, ...]
    mains: tuple[Measure, ...]
    measures: tuple[Measure, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the frame as plain values, None where there is none; worked out once, and not to be changed."""
        return plain_rows(self.frame)

    @cached_property
    def overalls(self) -> tuple[Overall, ...]:
        """What it says over its pairs, worked out once."""
        return tuple(overall(self))

    @property
    def ranked_by(self) -> list[Measure]:
        """The measures that rank rows: one, or one for each kind of data."""
        return [measure for measure in self.measures if measure in self.mains] or [TOP1]


def make_board(
    records: Iterable[Record | SeedResult],
    planned: Iterable[Cell] = (),
    studies: Iterable[Study] = (),
    *,
    by: str = "pair",
) -> Board:
    """The board of some records. Equal records give an equal board, whatever their order.

    Args:
        records: done and failed, of any kind, or what boards use of them. Those of teachers and trials are no rows.
            They are read once, and what boards do not use of them is not kept.
        planned: the cells that were asked for; one without a record is a missing seed.
        studies: what tells which rows are ``tuned`` or ``default``, and what the tuning took.
        by: what one table holds: a ``pair``, or all of a ``dataset``, ``teacher``, ``student`` or ``strategy``.
            Whichever it is, only rows of equal data, recipe (before tuning), protocol and evaluation share a table.

    Raises:
        UsageError: ``by`` is none of these.
    """
    grouping = checked_grouping(by)
    rows = BoardRows(records, planned)
    tunings = Tunings(rows.rows, studies)
    titles = Titles(rows.rows, grouping)
    remarks = set()
    if rows.conflicts:
        remarks.add(f"cells with different results, of which the one that ended last is used: {len(rows.conflicts)}")
    grouped: dict[tuple[Any, ...], list[tuple[PairKey, BoardLine]]] = defaultdict(list)
    measures: dict[str, Measure] = {}
    for key, lines in _pairs(rows, titles, tunings).items():
        found, measured = fill_pair(lines)
        measures |= {measure.name: measure for measure in measured}
        for remark in found:
            remarks.add(f"{titles.teacher(key)} -> {titles.student(key)}: {remark}")
        for line in lines:
            grouped[titles.group_key(key, line)].append((key, line))
    members = sorted(grouped.values(), key=titles.order)
    apart = titles.apart(members)
    values: list[dict[str, Any]] = []
    problems: list[Problem] = []
    groups: list[RowGroup] = []
    rowless_studies = {study.id: study for study in tunings.studies}
    for number, group in enumerate(members):
        _rank([line for _, line in group])
        group.sort(key=lambda member: _line_order(titles, *member))
        for key, line in group:
            values.append({"group": number, **titles.columns(key, line), **line.values})
            problems.extend(_problems(number, titles, key, line))
        studies_here = searched(tunings, group, rows_only=by == "strategy")
        for one in studies_here:
            rowless_studies.pop(one.study.id, None)
            problems.extend(_tuning_problems(number, titles, tunings, one))
        groups.append(_group(number, titles, group, apart[number], budget_text(group, studies_here)))
        if unequal(group):
            remarks.add(f"{groups[-1].full_title}: unequal tuning budgets, so its tuned rows do not compare fairly")
    remarks.update(rowless(study) for study in rowless_studies.values())
    contexts = tuple(titles.context_facts(group[0][0]) for group in members)
    mains = tuple(group[0][1].main for group in members)
    ordered = in_order(measures.values()) or (*IMAGES, *COST)
    columns = frame_columns([one for one in ordered if one in mains] or [TOP1], ordered)
    return Board(
        frame=_frame(values, columns),
        columns=columns,
        groups=tuple(groups),
        contexts=contexts,
        mains=mains,
        measures=ordered,
        problems=tuple(problems),
        remarks=tuple(sorted(remarks)),
    )


def _pairs(rows: BoardRows, titles: Titles, tunings: Tunings) -> dict[PairKey, list[BoardLine]]:
    """The lines of each pair; a row without a teacher stands with every pair of its student."""
    teachers: dict[PairKey, dict[str, None]] = defaultdict(dict)
    for key in rows.rows:
        if key.teacher != NO_TEACHER:
            teachers[key.pair._replace(teacher=NO_TEACHER)][key.teacher] = None
    pairs: dict[PairKey, list[BoardLine]] = defaultdict(list)
    for key, row in rows.rows.items():
        for teacher in teachers.get(key.pair, [NO_TEACHER]) if key.teacher == NO_TEACHER else [key.teacher]:
            tuning = replace(tunings.of(key), found=row.found)
            pairs[key.pair._replace(teacher=teacher)].append(titles.line(key, row, tuning))
    return pairs


def _rank(lines: Sequence[BoardLine]) -> None:
    """Place the lines by the mean of their main measure; equal means, up to rounding, share a place, and a row without
    a mean has none."""
    means = [(line.values[line.main.name], line.main.sign) for line in lines]
    scores = [None if mean is None else round(sign * mean, 9) for mean, sign in means]
    place_of: dict[float, int] = {}
    for place, score in enumerate(sorted((score for score in scores if score is not None), reverse=True), start=1):
        place_of.setdefault(score, place)
    for line, score in zip(lines, scores, strict=True):
        line.values["rank"] = None if score is None else place_of[score]


def _line_order(titles: Titles, key: PairKey, line: BoardLine) -> tuple[Any, ...]:
    rank = line.values["rank"]
    return (rank is None, rank or 0, line.label, line.params, titles.teacher(key), titles.student(key))


def _problems(number: int, titles: Titles, key: PairKey, line: BoardLine) -> list[Problem]:
    names = (number, line.text, titles.teacher(key), titles.student(key))
    seeds_by_reason: dict[str, list[int]] = defaultdict(list)
    for seed in sorted(line.row.failed):
        seeds_by_reason[line.row.failed[seed].reason].append(seed)
    found = [Problem(*names, tuple(seeds), "failed", reason) for reason, seeds in seeds_by_reason.items()]
    if line.row.missing:
        found.append(Problem(*names, tuple(sorted(line.row.missing)), "missing"))
    return found


def _tuning_problems(number: int, titles: Titles, tunings: Tunings, one: Searched) -> list[Problem]:
    names = (number, one.label, titles.teacher(one.key), titles.student(one.key))
    return [Problem(*names, (), "tuning", fault) for fault in tunings.faults(one.study, one.key)]


def _group(
    number: int, titles: Titles, members: Sequence[tuple[PairKey, BoardLine]], apart: str, tuning: str
) -> RowGroup:
    key, _ = members[0]
    context = titles.context(key)
    return RowGroup(
        number=number,
        title=titles.title(members),
        recipe=recipe_text(context.recipe),
        data=data_text(context.data),
        init=context.init,
        protocol=context.protocol,
        evaluation=key.evaluation,
        outdated=key.evaluation < EVALUATION,
        seeds=tuple(sorted({seed for _, line in members for seed in line.row.seeds})),
        apart=apart,
        tuning=tuning,
    )


def _frame(values: Sequence[dict[str, Any]], columns: Sequence[Column]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            column.name: pd.Series(
                [row.get(column.name, "" if column.kind == "text" else None) for row in values],
                dtype=DTYPES[column.kind],
            )
            for column in columns
        }
    )
