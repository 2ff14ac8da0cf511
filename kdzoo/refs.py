"""What a cell is made of: models, datasets, strategies and teachers, each named by plain values."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kdzoo.errors import UsageError
from kdzoo.recipe import Recipe
from kdzoo.yamltext import read_scalar

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


BALANCE_RULE = 1
"""Version of the rule of :mod:`kdzoo.engine.balance`: raised when the same steps would give other weights."""


class Balance(Frozen):
    """Weights that follow from the pair, in the place of the papers'; see :mod:`kdzoo.engine.balance`.

    Args:
        ratio: of the gradient of a strategy's terms to that of the hard-label loss.
        rule: version of the rule; whoever plans a cell gives today's.
    """

    ratio: Annotated[float, Field(gt=0)]
    rule: AtLeastOne


class Hop(Frozen):
    """A network between the teacher and the student of a cell: who came before it teaches it, and it teaches the next.

    Args:
        student: the network.
        strategy: how it is taught.
        init: what it starts from.
        balance: how its strategy's terms are weighted, as in a cell.
    """

    student: ModelRef
    strategy: StrategyRef
    init: Init = "random"
    balance: Balance | None = Field(default=None, exclude_if=operator.not_)
