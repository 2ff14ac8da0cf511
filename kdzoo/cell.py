"""A cell, the unit of work, and the references it is made of: plain values, hashed into the cell's name."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json, to_json

from kdzoo.errors import UsageError
from kdzoo.recipe import Recipe
from kdzoo.rowkey import RowKey
from kdzoo.yamltext import read_scalar

PROTOCOL = 1
"""Version of the protocol: splits, seeds, views and evaluation. Records of different protocols are never mixed."""

Scalar = bool | int | float | str | None
AtLeastOne = Annotated[int, Field(ge=1)]
Init = Annotated[str, Field(pattern=r"^(random|pretrained(:[0-9a-f]{16})?)$")]
"""What a network starts from: ``random``, or timm's weights: ``pretrained``, for a student with a hash of them (without
the head), since a name alone would let timm publish better weights under an old cell's name."""

NAMELESS_TEACHER: dict[str, Any] = {"recipe": {"name"}, "members": {"__all__": {"recipe": {"name"}}}}
"""The names of recipes in a teacher, as pydantic excludes them."""

_HUB_PREFIX = re.compile(r"^(hf-hub:|hf_hub:|local-dir:)")


class Frozen(BaseModel):
    """Base of the typed values: immutable, nothing unknown, no silent conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __hash__(self) -> int:
        # pydantic would hash the fields, of which some are dicts.
        return hash(self.model_dump_json())


class ModelRef(Frozen):
    """A timm model by name (with tag) and the arguments it is made with."""

    name: str
    args: dict[str, Scalar] = {}

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        r"""Read ``name`` or ``name:argument=value:argument=value``, values as in YAML; ``\:`` is a colon in the name.

        Example:
            >>> str(ModelRef.parse("vit_tiny_patch16_224:patch_size=4:depth=6"))
            'vit_tiny_patch16_224:depth=6:patch_size=4'

        Raises:
            UsageError: the text has another form.
        """
        prefix = match.group() if (match := _HUB_PREFIX.match(text)) else ""
        name, *pieces = re.split(r"(?<!\\):", text[len(prefix) :])
        args: dict[str, Scalar] = {}
        for piece in pieces:
            key, equals, value = piece.partition("=")
            if not (equals and key.isidentifier()):
                raise UsageError(f"model {text!r}: write arguments as name:argument=value, for example {name}:depth=6")
            args[key] = read_scalar(value)
        if not name:
            raise UsageError(f"model {text!r} has no name")
        return cls(name=prefix + name.replace(r"\:", ":"), args=dict(sorted(args.items())))

    @classmethod
    def parse_several(cls, text: str) -> tuple[ModelRef, ...]:
        r"""Read ``a+b``, several models side by side; ``\+`` is a plus in the name of one.

        Example:
            >>> [str(each) for each in ModelRef.parse_several("resnet10t+vit_tiny_patch16_224:patch_size=4")]
            ['resnet10t', 'vit_tiny_patch16_224:patch_size=4']

        Raises:
            UsageError: one of them has another form.
        """
        return tuple(cls.parse(piece.replace(r"\+", "+")) for piece in re.split(r"(?<!\\)\+", text))

    def __str__(self) -> str:
        name = self.name
        if match := _HUB_PREFIX.match(name):
            name = match.group() + name[match.end() :].replace(":", r"\:")
        return ":".join([name, *(f"{key}={value}" for key, value in sorted(self.args.items()))])


class DataRef(Frozen):
    """A dataset as a cell sees it: what it is called, what is in it, and the shape in which images reach a network.

    Args:
        name: with the subset, for example ``fashion_mnist[:5000]``.
        fingerprint: hash of the samples and labels of train and test, in order.
        num_classes: number of classes.
        channels: 1 or 3 for images.
        img_size: height and width of the images that networks see, pixels.
        fit: samples that train.
        tune: samples, cut from train, that select.
        test: samples that measure, once, at the end.
    """

    name: str
    fingerprint: str
    num_classes: Annotated[int, Field(ge=2)]
    channels: AtLeastOne
    img_size: tuple[AtLeastOne, AtLeastOne]
    fit: AtLeastOne
    tune: AtLeastOne
    test: AtLeastOne


class StrategyRef(Frozen):
    """A strategy with all its parameters, and the distribution that brought it."""

    name: str
    distribution: str
    revision: str
    params: dict[str, Scalar] = {}

    @property
    def version(self) -> tuple[str, str, str]:
        """Name, distribution and revision: equal for one strategy, whatever its parameters."""
        return self.name, self.distribution, self.revision


class Input(Frozen):
    """How a network is shown images, as far as that is not the dataset's own way; None is the dataset's.

    Args:
        mean: of each channel, for images in [0, 1].
        std: of each channel, likewise.
        size: height and width to which images are brought, pixels.
        crop: share of an image's height and width, around its middle, that the network sees; timm's ``crop_pct``.
        interpolation: by which images are brought to the size.
    """

    mean: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    size: tuple[AtLeastOne, AtLeastOne] | None = None
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None


class TeacherRef(Frozen):
    """A teacher and where its weights come from; or several, of which the mean of the probabilities is taught.

    Args:
        model: the network; of several the names of all, joined by ``+``, which is no model that could be made.
        weights: ``trained`` on fit by kdzoo, ``finetuned`` from timm's weights, timm's ``pretrained``, or a ``file``;
            ``several`` where each member says it.
        recipe: how it was trained, if kdzoo trained it.
        strategy: the label-only strategy of that training.
        seed: seed index of that training.
        digest: SHA-256 of the file, or of timm's tensors (without the head, where that is trained anew).
        input: how the network of a ``file`` is shown images, where that is not the dataset's way.
        average: the entry of the file that was taken, where it is a moving average of the weights.
        members: the teachers, where there are several, in the order of their names.
    """

    model: ModelRef
    weights: Literal["trained", "finetuned", "pretrained", "file", "several"]
    recipe: Recipe | None = None
    strategy: StrategyRef | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    digest: str | None = None
    input: Input | None = None
    average: Literal["state_dict_ema", "model_ema"] | None = None
    # Left out where it is empty, so that records which have no such field stay as they are, to the byte.
    members: tuple[TeacherRef, ...] = Field(default=(), exclude_if=operator.not_)

    @model_validator(mode="after")
    def _several_or_one(self) -> TeacherRef:
        if (self.weights == "several") != bool(self.members):
            raise ValueError("several teachers are members, and one has none")
        if self.members:
            if len(self.members) == 1 or any(member.members for member in self.members):
                raise ValueError("several teachers are at least two, each of them one")
            if self != self.of_several(self.members):
                raise ValueError("several teachers are named by their models, in order, and have nothing of their own")
        return self

    @classmethod
    def of_several(cls, members: Iterable[TeacherRef]) -> TeacherRef:
        """Several teachers as one. Their order says nothing, so it is that of their names."""
        ordered = tuple(sorted(members, key=lambda member: (str(member.model), member.model_dump_json())))
        name = "+".join(str(member.model) for member in ordered)
        return cls.model_construct(model=ModelRef(name=name), weights="several", members=ordered)

    @property
    def parts(self) -> tuple[TeacherRef, ...]:
        """Each teacher by itself: the members, or this one."""
        return self.members or (self,)

    @property
    def own_input(self) -> bool:
        """Whether it sees images as timm's weights were trained on them: their size and normalisation."""
        return self.weights in ("pretrained", "finetuned")


class Hop(Frozen):
    """A network between the teacher and the student of a cell: who came before it teaches it, and it teaches the next.

    Args:
        student: the network.
        strategy: how it is taught.
        init: what it starts from.
    """

    student: ModelRef
    strategy: StrategyRef
    init: Init = "random"


class Cell(Frozen):
    """Dataset x pair x strategy x recipe x seed index.

    Args:
        kind: ``student``; ``teacher`` for the training of a teacher, which has no teacher of its own and whose
            strategy is the label-only baseline; ``assistant`` for that of a network between teacher and student;
            ``trial`` for one of tuning, which is never measured on test.
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
        protocol: version of the protocol.
    """

    kind: Literal["student", "teacher", "assistant", "trial"]
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
    protocol: int = Field(default_factory=lambda: PROTOCOL, ge=1)

    @model_validator(mode="after")
    def _trials_belong_to_studies(self) -> Cell:
        if self.study and self.kind != "trial":
            raise ValueError("only a trial belongs to a study")
        if self.peer and self.hops:
            raise ValueError("a cell with a second student has no networks between teacher and student")
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
        fields |= {name: setting[name] for name in ("strategy", "hops", "peer") if name in setting}
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
