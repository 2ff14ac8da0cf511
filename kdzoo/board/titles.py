"""Which table a line belongs to, what the table is called, and what sets it apart from its namesakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from kdzoo.board.identity import Context
from kdzoo.board.labels import VOUCHED, Facts, facts, short_words, strategy_labels, teacher_labels, telling
from kdzoo.board.lines import Line
from kdzoo.board.rows import Place, Rows
from kdzoo.cell import canonical_json, content_hash
from kdzoo.errors import UsageError, unknown

Members = Sequence[tuple["PairKey", Line]]
"""The lines of one table, each with its pair."""

By = Literal["pair", "dataset", "teacher", "student", "strategy"]
BY: tuple[By, ...] = get_args(By)


def checked_grouping(by: str) -> By:
    """What one table holds, if it can.

    Raises:
        UsageError: ``by`` is none of :data:`BY`.
    """
    if by not in BY:
        raise UsageError(unknown("grouping", by, BY))
    return by


class PairKey(NamedTuple):
    """A pair in one context, by the numbers of :class:`kdzoo.board.rows.Rows`; the teacher may be none."""

    context: int
    evaluation: int
    student: int
    teacher: int | None

    @property
    def place(self) -> Place:
        """The pair in its context, however it was measured."""
        return Place(self.context, self.student, self.teacher)


class Titles:
    """Names for the things of a board, computed once each.

    Args:
        rows: all rows, because a name is made longer only where it would be ambiguous.
        by: what one table holds.
    """

    def __init__(self, rows: Rows, by: By) -> None:
        self.rows = rows
        self.by = by
        self.strategies = strategy_labels([setting.strategy for setting in rows.settings.things])
        self.params = [canonical_json(setting.params) for setting in rows.settings.things]
        self._teachers = self._teacher_labels()
        self._students = [str(student) for student in rows.students.things]
        self._recipe_hashes = [content_hash(context.recipe.model_dump(mode="json")) for context in rows.contexts.things]

    def context(self, key: PairKey) -> Context:
        """What all rows of the table share."""
        return self.rows.contexts.things[key.context]

    def teacher(self, key: PairKey, *, bare: bool = False) -> str:
        """The teacher's label, empty for none; ``bare`` leaves out what tells it from others of the same model."""
        if key.teacher is None:
            return ""
        if bare:
            return str(self.rows.teachers.things[key.teacher].model)
        return self._teachers[self._dataset(key.context), key.teacher]

    def student(self, key: PairKey) -> str:
        """The student's label."""
        return self._students[key.student]

    def group_key(self, key: PairKey, line: Line) -> tuple[Any, ...]:
        """Equal for the lines that share a table."""
        subject = {
            "pair": (key.student, key.teacher),
            "dataset": (),
            "teacher": (key.teacher,),
            "student": (key.student,),
            "strategy": (line.label,),
        }
        return (key.context, key.evaluation, *subject[self.by])

    def title(self, members: Members, *, bare: bool = False) -> str:
        """The dataset and what the table of these lines is about."""
        key, line = members[0]
        teacher = self.teacher(key, bare=bare)
        subject = {
            "pair": f"{teacher} -> {self.student(key)}" if teacher else self.student(key),
            "dataset": self._shared_pair(members, teacher),
            "teacher": f"teacher {teacher}" if teacher else "no teacher",
            "student": f"student {self.student(key)}",
            "strategy": f"strategy {line.label}",
        }[self.by]
        return self._dataset(key.context) + (f": {subject}" if subject else "")

    def order(self, members: Members) -> tuple[Any, ...]:
        """Sorts the tables, by nothing that depends on the order of the records."""
        key, _ = members[0]
        context = self.context(key)
        return (
            self.title(members),
            context.recipe.name,
            self._recipe_hashes[key.context],
            context.init,
            context.protocol,
            key.evaluation,
            canonical_json(context.data.model_dump(mode="json")),
        )

    def apart(self, tables: Sequence[Members]) -> list[str]:
        """For each table: its recipe, where the dataset has several, and what tells it from those of the same title."""
        recipes: dict[str, set[str]] = defaultdict(set)
        namesakes: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, members in enumerate(tables):
            key, _ = members[0]
            recipe = self.context(key).recipe.name
            recipes[self._dataset(key.context)].add(recipe)
            namesakes[self.title(members, bare=True), recipe].append(place)
        apart = [""] * len(tables)
        for places in namesakes.values():
            everyone = [self._facts(tables[place][0][0]) for place in places]
            names = telling(everyone)
            for place, one in zip(places, everyone, strict=True):
                several = len(recipes[self._dataset(tables[place][0][0].context)]) > 1
                apart[place] = short_words(one, [*(["recipe.name"] if several else []), *names])
        return apart

    def columns(self, key: PairKey, line: Line) -> dict[str, Any]:
        """The columns that say what a line is about."""
        context = self.context(key)
        return {
            "dataset": context.data.name,
            "img_size": size_text(context.data.img_size),
            "fingerprint": context.data.fingerprint,
            "recipe": context.recipe.name,
            "recipe_hash": self._recipe_hashes[key.context],
            "init": context.init,
            "protocol": context.protocol,
            "evaluation": key.evaluation,
            "strategy": line.label,
            **line.tuning.columns(),
            "params": line.params,
            "distribution": line.strategy.distribution,
            "revision": line.strategy.revision,
            "teacher": self.teacher(key),
            "teacher_weights": self._weights(key) + (f", {VOUCHED}" if line.vouched else ""),
            "student": self.student(key),
        }

    def _weights(self, key: PairKey) -> str:
        return "" if key.teacher is None else self.rows.teachers.things[key.teacher].weights

    def _dataset(self, context: int) -> str:
        data = self.rows.contexts.things[context].data
        return f"{data.name} {size_text(data.img_size)}"

    def _teacher_labels(self) -> dict[tuple[str, int], str]:
        """Dataset and number -> label. The same network on another dataset is no namesake."""
        taught: dict[str, set[int]] = defaultdict(set)
        for identity, _ in self.rows.rows:
            if identity.teacher is not None:
                taught[self._dataset(identity.context)].add(identity.teacher)
        found: dict[tuple[str, int], str] = {}
        for dataset, numbers in taught.items():
            labels = teacher_labels([self.rows.teachers.things[number] for number in numbers])
            found |= {(dataset, number): label for number, label in zip(numbers, labels, strict=True)}
        return found

    def _shared_pair(self, members: Members, teacher: str) -> str:
        """The pair of a table that has one; its teacher, where all rows have that; else nothing."""
        students = {key.student for key, _ in members}
        if len({key.teacher for key, _ in members}) > 1 or (len(students) > 1 and not teacher):
            return ""
        student = self.student(members[0][0]) if len(students) == 1 else f"{len(students)} students"
        return f"{teacher} -> {student}" if teacher else student

    def _facts(self, key: PairKey) -> Facts:
        context = self.context(key)
        return {
            **facts(context.recipe, "recipe"),
            **facts(context.data, "data"),
            "init": context.init,
            "protocol": str(context.protocol),
            "evaluation": str(key.evaluation),
        }


def size_text(img_size: tuple[int, int]) -> str:
    """Height x width."""
    return f"{img_size[0]}x{img_size[1]}"
