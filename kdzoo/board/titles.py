"""Which table a line belongs to, what the table is called, and what sets it apart from its namesakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from kdzoo.board.labels import (
    VOUCHED,
    Facts,
    distinguishing,
    facts,
    params_text,
    short_words,
    strategy_labels,
    teacher_labels,
)
from kdzoo.board.rows import BoardLine, RowSeeds
from kdzoo.board.tuned import Tuning
from kdzoo.cell import NO_CONTEXT, Cell, PairKey, RowKey, canonical_json, content_hash
from kdzoo.errors import UsageError, unknown
from kdzoo.refs import StrategyRef

Members = Sequence[tuple[PairKey, BoardLine]]
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


class _Setting(NamedTuple):
    """What a row tries, as :class:`kdzoo.board.rows.BoardLine` has it."""

    strategy: StrategyRef
    changes: dict[str, Any]
    label: str
    params: str
    words: str
    balanced: bool


class Titles:
    """Names for the things of a board, computed once each.

    Args:
        keys: of all rows, because a name is made longer only where it would be ambiguous.
        by: what one table holds.
    """

    def __init__(self, keys: Iterable[RowKey], by: By) -> None:
        self.by = by
        keys = list(keys)
        self._cells = _by_part(keys, "context")
        self._students = {text: str(cell.student) for text, cell in _by_part(keys, "student").items()}
        self._taught = {text: cell.teacher for text, cell in _by_part(keys, "teacher").items() if cell.teacher}
        self._teachers = self._teacher_labels(keys)
        self._settings = _settings(keys)
        self._recipe_hashes = {
            text: content_hash(cell.recipe.model_dump(mode="json")) for text, cell in self._cells.items()
        }

    def line(self, key: RowKey, row: RowSeeds, tuning: Tuning) -> BoardLine:
        """The line of a row."""
        setting = self._settings[key.setting]
        text = " ".join(filter(None, (setting.label, tuning.variant, setting.words)))
        return BoardLine(
            row, setting.strategy, setting.changes, tuning, text, setting.label, setting.params, setting.balanced
        )

    def context(self, key: PairKey) -> Cell:
        """A cell of the context, with the recipe before tuning."""
        return self._cells[key.context]

    def context_facts(self, key: PairKey) -> Facts:
        """All that the rows of a context share, by dotted names, the most readable first."""
        values = self.context(key).model_dump(exclude=set(NO_CONTEXT))
        first = {name: values.pop(name) for name in ("recipe", "data")}
        return facts(first | values) | {"evaluation": str(key.evaluation)}

    def teacher(self, key: PairKey, *, bare: bool = False) -> str:
        """The teacher's label, empty for none; ``bare`` leaves out what tells it from others of the same model."""
        if key.teacher not in self._taught:
            return ""
        if bare:
            return str(self._taught[key.teacher].model)
        return self._teachers[self._dataset(key.context), key.teacher]

    def student(self, key: PairKey) -> str:
        """The student's label."""
        return self._students[key.student]

    def group_key(self, key: PairKey, line: BoardLine) -> tuple[Any, ...]:
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
            key.context,
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
            everyone = [self.context_facts(tables[place][0][0]) for place in places]
            names = distinguishing(everyone)
            for place, one in zip(places, everyone, strict=True):
                several = len(recipes[self._dataset(tables[place][0][0].context)]) > 1
                apart[place] = short_words(one, [*(["recipe.name"] if several else []), *names])
        return apart

    def columns(self, key: PairKey, line: BoardLine) -> dict[str, Any]:
        """The columns that say what a line is about."""
        context = self.context(key)
        return {
            "dataset": context.data.name,
            "img_size": img_size_text(context.data.img_size),
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
        parts = self._taught[key.teacher].parts if key.teacher in self._taught else ()
        return "+".join(dict.fromkeys(part.weights for part in parts))

    def _dataset(self, context: str) -> str:
        data = self._cells[context].data
        return f"{data.name} {img_size_text(data.img_size)}"

    def _teacher_labels(self, keys: Iterable[RowKey]) -> dict[tuple[str, str], str]:
        """Dataset and teacher -> label. The same network on another dataset is no namesake."""
        taught: dict[str, dict[str, None]] = defaultdict(dict)
        for key in keys:
            if key.teacher in self._taught:
                taught[self._dataset(key.context)][key.teacher] = None
        found: dict[tuple[str, str], str] = {}
        for dataset, texts in taught.items():
            labels = teacher_labels([self._taught[text] for text in texts])
            found |= {(dataset, text): label for text, label in zip(texts, labels, strict=True)}
        return found

    def _shared_pair(self, members: Members, teacher: str) -> str:
        """The pair of a table that has one; its teacher, where all rows have that; else nothing."""
        students = {key.student for key, _ in members}
        if len({key.teacher for key, _ in members}) > 1 or (len(students) > 1 and not teacher):
            return ""
        student = self.student(members[0][0]) if len(students) == 1 else f"{len(students)} students"
        return f"{teacher} -> {student}" if teacher else student


def _by_part(keys: Iterable[RowKey], part: str) -> dict[str, Cell]:
    """For each text of a part of the keys the cell of a row that has it: in this part they are all equal."""
    return {text: Cell.of_row(key) for text, key in {getattr(key, part): key for key in keys}.items()}


def _settings(keys: Iterable[RowKey]) -> dict[str, _Setting]:
    """What the rows try, by its text in their keys."""
    rows = {key.setting: key for key in keys}
    cells = list(_by_part(keys, "setting").values())
    found = {}
    for key, cell, label in zip(rows.values(), cells, strategy_labels([cell.strategy for cell in cells]), strict=True):
        params: dict[str, Any] = {**cell.strategy.params, **key.changes}
        params |= {"balance": cell.balance.ratio} if cell.balance else {}
        texts = (label + cell.mark, canonical_json(params), params_text(params))
        found[key.setting] = _Setting(cell.strategy, key.changes, *texts, bool(cell.balance))
    return found


def img_size_text(img_size: tuple[int, int]) -> str:
    """Height x width."""
    return f"{img_size[0]}x{img_size[1]}"
