"""A cell, the unit of work: plain values, hashed into the cell's name; and the row of a board to which it belongs."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator
from pydantic_core import from_json, to_json

from kdzoo.recipe import Recipe
from kdzoo.refs import (
    NAMELESS_TEACHER,
    Balance,
    DataRef,
    Frozen,
    Hop,
    Init,
    ModelRef,
    StrategyRef,
    TeacherRef,
)

_BESIDE = ("hops", "peer", "balance")
"""The fields of a cell that are part of a row's setting as they are, where they are there at all."""

NO_CONTEXT = frozenset({"seed", "student", "teacher", "strategy", "tuned_from", *_BESIDE})
"""The fields of a cell in which rows may differ that are compared; every other one, also of a later version, is part of
their context."""

NO_TEACHER = "null"
"""The part of a key for the teacher of a cell that has none."""


class PairKey(NamedTuple):
    """A pair in one context, as one version of the evaluation measured it: what a :class:`RowKey` has in common with
    the rows that it is compared with."""

    context: str
    evaluation: int
    student: str
    teacher: str


class RowKey(NamedTuple):
    """Which row of a board a cell belongs to: the canonical text of the cell without its seed, in parts.

    Attributes:
        context: what rows share that may be compared: every field of a cell that is in no other part, so that a field
            which a later version adds keeps rows apart too. The recipe is that before tuning.
        evaluation: version of the evaluation that measured it.
        student: the student.
        teacher: the teacher; :data:`NO_TEACHER` for none.
        setting: the strategy with its parameters, the networks that it trains beside the student, how its terms are
            balanced, and what tuning changed in the recipe.
    """

    context: str
    evaluation: int
    student: str
    teacher: str
    setting: str

    @classmethod
    def of_texts(cls, texts: Mapping[str, str], changes: str, evaluation: int) -> RowKey:
        """The key of a cell.

        Args:
            texts: canonical JSON of each field of its identity.
            changes: of what tuning changed in its recipe, likewise.
            evaluation: version of the evaluation that measured it.
        """
        context = {name: text for name, text in texts.items() if name not in NO_CONTEXT}
        context["recipe"] = texts.get("tuned_from", texts["recipe"])
        setting = {"changes": changes, "strategy": texts["strategy"]}
        setting |= {name: texts[name] for name in _BESIDE if name in texts}
        return cls(canonical_object(context), evaluation, texts["student"], texts["teacher"], canonical_object(setting))

    @property
    def pair(self) -> PairKey:
        """The row's pair in its context."""
        return PairKey(*self[:-1])

    @property
    def changes(self) -> dict[str, Any]:
        """What tuning changed in the recipe, as :attr:`kdzoo.cell.Cell.recipe_changes`."""
        changes: dict[str, Any] = from_json(self.setting)["changes"]
        return changes


def canonical_object(texts: Mapping[str, str]) -> str:
    """The canonical JSON of an object, of the canonical JSON of its values."""
    return "{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}"


BALANCED = "@balanced"
"""What boards write behind the name of a strategy whose terms are balanced."""

PROTOCOL = 1
"""Version of the protocol: splits, seeds, views and evaluation. Records of different protocols are never mixed."""


class Cell(Frozen):
    """Dataset x pair x strategy x recipe x seed index.

    Args:
        kind: ``student``; ``teacher`` for the training of a teacher, which has no teacher of its own and whose
            strategy is the label-only baseline; ``assistant`` for that of a network between teacher and student;
            ``trial`` for one of tuning and ``rung`` for one of a race, which are never measured on test.
        data: the dataset.
        student: what is trained.
        teacher: what teaches it.
        strategy: how.
        recipe: how it is trained.
        seed: the seed index.
        init: what the student starts from.
        tuned_from: the recipe that tuning changed into this one. The cell keeps its seeds, and its place on a board.
        study: id of the study whose pruner may end this trial early. What it decides follows from that study's other
            trials, so its result is no other study's; empty where nothing but a bad loss can end it.
        hops: the networks between the teacher and the student, from the teacher's side; the last one teaches.
        peer: a second student, which learns at the same time, each from the other; the teacher does not teach.
        balance: how the strategy's terms are weighted beside the hard-label loss, where that is not by its parameters.
        until: after how many epochs of the recipe a rung ends, of a strategy whose main phase is all of the training;
            of one with phases before it, after the same share of its main phase. 0 for what is no rung.
        protocol: version of the protocol.
    """

    kind: Literal["student", "teacher", "assistant", "trial", "rung"]
    data: DataRef
    student: ModelRef
    teacher: TeacherRef | None
    strategy: StrategyRef
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)]
    init: Init = "random"
    tuned_from: Recipe | None = None
    study: str = ""
    hops: tuple[Hop, ...] = Field(default=(), exclude_if=operator.not_)
    peer: ModelRef | None = Field(default=None, exclude_if=operator.not_)
    balance: Balance | None = Field(default=None, exclude_if=operator.not_)
    until: Annotated[int, Field(ge=0, exclude_if=operator.not_)] = 0
    protocol: int = Field(default_factory=lambda: PROTOCOL, ge=1)

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Cell:
        if self.study and self.kind != "trial":
            raise ValueError("only a trial belongs to a study")
        if self.peer and self.hops:
            raise ValueError("a cell with a second student has no networks between teacher and student")
        if (self.kind == "rung") != (self.until > 0) or self.until > self.recipe.epochs:
            raise ValueError("a rung ends after an epoch of its recipe, and nothing else does so")
        return self

    @property
    def starts_pretrained(self) -> bool:
        """Whether the student starts from timm's weights; it then sees images as those were trained on them."""
        return self.init != "random"

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the cell: a hash of everything that can change its result."""
        return content_hash(self.identity())

    def identity(self, *, names: bool = False) -> dict[str, Any]:
        """Everything that can change the cell's result: all of it but the names of recipes, which say nothing new.

        Values at their default are left out, so that a later version may add a field whose default means what was
        before, and old cells keep their names. A default is therefore never changed.

        Args:
            names: whether the names of recipes are in it all the same.
        """
        nameless: dict[str, Any] = {"recipe": {"name"}, "tuned_from": {"name"}, "teacher": NAMELESS_TEACHER}
        exclude = None if names else nameless
        return self.model_dump(mode="json", exclude=exclude, exclude_defaults=True) | {"protocol": self.protocol}

    @property
    def teaches(self) -> bool:
        """Whether it is trained so that others can be: a teacher, or a network between teacher and student."""
        return self.kind in ("teacher", "assistant")

    @property
    def only_selects(self) -> bool:
        """Whether it is trained to choose by: measured on tune, never on test, and on no board."""
        return self.kind in ("trial", "rung")

    @property
    def goes_on(self) -> bool:
        """Whether it is a rung that ends before its recipe does, so that a higher one takes up its checkpoint."""
        return 0 < self.until < self.recipe.epochs

    def lower_rungs(self) -> Iterator[Cell]:
        """The rungs that may have trained the first epochs of this one, the highest first."""
        return (self.model_copy(update={"until": until}) for until in range(self.until - 1, 0, -1))

    @property
    def models(self) -> list[ModelRef]:
        """Every network that it takes to run the cell, each once: the student, and those that teach."""
        taught_by = self.teacher.parts if self.teacher else ()
        others = [*(each.model for each in taught_by), *(hop.student for hop in self.hops)]
        others += [self.peer] if self.peer else []
        return list(dict.fromkeys([self.student, *others]))

    @property
    def giver(self) -> TeacherRef | None:
        """Who gives the signals: the teacher, or the last of the networks between; nobody beside a second student."""
        if self.peer:
            return None
        if not self.hops:
            return self.teacher
        last = self.hops[-1]
        return TeacherRef(
            model=last.student,
            weights="trained" if last.init == "random" else "finetuned",
            strategy=last.strategy,
            seed=self.seed,
        )

    @property
    def mark(self) -> str:
        """What boards write behind the strategy's name."""
        return BALANCED if self.balance else ""

    def row_key(self, evaluation: int, *, names: bool = True) -> RowKey:
        """The row of a board to which the cell belongs.

        Args:
            evaluation: version of the evaluation that measured it.
            names: whether names of recipes keep rows apart, as they do on boards, though they do not change an id.
        """
        texts = {name: canonical_json(value) for name, value in self.identity(names=names).items()}
        return RowKey.of_texts(texts, canonical_json(self.recipe_changes), evaluation)

    @classmethod
    def of_row(cls, key: RowKey) -> Cell:
        """The cell of a row that has the seed 0, with the recipe before tuning; of a key with names."""
        fields: dict[str, Any] = from_json(key.context) | {"seed": 0}
        fields |= {"student": from_json(key.student), "teacher": from_json(key.teacher)}
        setting = from_json(key.setting)
        fields |= {name: setting[name] for name in ("strategy", *_BESIDE) if name in setting}
        return cls.model_validate_json(to_json(fields))

    @property
    def recipe_changes(self) -> dict[str, Any]:
        """What tuning changed in the recipe, by full names such as ``recipe.lr``; another name is no change."""
        if self.tuned_from is None:
            return {}
        base = _flat(self.tuned_from)
        return {f"recipe.{name}": value for name, value in _flat(self.recipe).items() if value != base[name]}

    def seed_for(self, purpose: str) -> int:
        """A 63-bit seed for one purpose (``init``, ``order``, ``adapters``, ...).

        It depends on the data, the student, the recipe before tuning and the seed index, and not on teacher or
        strategy, so that strategies are compared in pairs.
        """
        key = [
            # Else a teacher or an assistant of the student's own kind would be the student of its seed.
            f"assistant {len(self.hops)}" if self.kind == "assistant" else self.kind == "teacher",
            self.data.model_dump(mode="json", exclude_defaults=True),
            self.student.model_dump(mode="json", exclude_defaults=True),
            (self.tuned_from or self.recipe).model_dump(mode="json", exclude_defaults=True, exclude={"name"}),
            self.seed,
            purpose,
        ]
        return int(content_hash(key), 16) >> 1


def _flat(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude={"name"})
    augment = values.pop("augment")
    return values | {f"augment.{name}": value for name, value in augment.items()}


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return _CANONICAL.encode(value)


def content_hash(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
