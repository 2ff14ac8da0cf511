"""Which table a line belongs to, what the table is called, and what sets it apart from its namesakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from kdzoo.board.identity import Context
from kdzoo.board.labels import differing, facts, spell, strategy_labels, teacher_labels
from kdzoo.board.lines import Line
from kdzoo.board.rows import Place, Rows
from kdzoo.cell import canonical_json, content_hash

By = Literal["pair", "dataset", "teacher", "student", "strategy"]
BY: tuple[By, ...] = get_args(By)


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
        self._teachers = teacher_labels(rows.teachers.things)
        self._students = [str(student) for student in rows.students.things]
        self._recipe_hashes = [content_hash(context.recipe.model_dump(mode="json")) for context in rows.contexts.things]

    def context(self, key: PairKey) -> Context:
        """What all rows of the table share."""
        return self.rows.contexts.things[key.context]

    def teacher(self, key: PairKey, *, bare: bool = False) -> str:
        """The teacher's label, empty for none; ``bare`` leaves out what tells it from others of the same model."""
        if key.teacher is None:
            return ""
        return str(self.rows.teachers.things[key.teacher].model) if bare else self._teachers[key.teacher]

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

    def title(self, key: PairKey, line: Line, *, bare: bool = False) -> str:
        """The dataset and what the table is about."""
        teacher = self.teacher(key, bare=bare)
        subject = {
            "pair": f"{teacher} -> {self.student(key)}" if teacher else self.student(key),
            "dataset": "",
            "teacher": f"teacher {teacher}" if teacher else "no teacher",
            "student": f"student {self.student(key)}",
            "strategy": f"strategy {line.label}",
        }[self.by]
        data = self.context(key).data
        return f"{data.name} {size_text(data.img_size)}" + (f": {subject}" if subject else "")

    def order(self, key: PairKey, line: Line) -> tuple[Any, ...]:
        """Sorts the tables, by nothing that depends on the order of the records."""
        context = self.context(key)
        return (
            self.title(key, line),
            context.recipe.name,
            self._recipe_hashes[key.context],
            context.init,
            context.protocol,
            key.evaluation,
            canonical_json(context.data.model_dump(mode="json")),
        )

    def apart(self, heads: Sequence[tuple[PairKey, Line]]) -> list[str]:
        """For each table, by one of its lines: what tells it from those of the same title; empty for the only one."""
        namesakes: dict[str, list[int]] = defaultdict(list)
        for place, (key, line) in enumerate(heads):
            namesakes[self.title(key, line, bare=True)].append(place)
        apart = [""] * len(heads)
        for places in namesakes.values():
            if len(places) > 1:
                everyone = [self._facts(heads[place][0]) for place in places]
                names = differing(everyone)
                for place, one in zip(places, everyone, strict=True):
                    apart[place] = spell(one, names)
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
            "teacher_weights": "" if key.teacher is None else self.rows.teachers.things[key.teacher].weights,
            "student": self.student(key),
        }

    def _facts(self, key: PairKey) -> dict[str, str]:
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
