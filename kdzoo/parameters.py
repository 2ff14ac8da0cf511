"""One declaration of a strategy's hyperparameter: default, paper's value, valid range, search range, help."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias, TypeVar, cast

from kdzoo.errors import UsageError, unknown

Value: TypeAlias = bool | int | float | str

MOST_SEARCHED = 5
"""Parameters of one strategy that may be searched: beyond, the usual budgets find nothing."""

LONGEST_TEXT = 1_000
"""Characters of a text: it stands in every record and board of its strategy."""

_T = TypeVar("_T", bool, int, float, str)


@dataclass(frozen=True)
class Param:
    """A hyperparameter of a strategy. Its type is the type of its default.

    Args:
        default: the value used when nobody sets one.
        help: one line for the strategy's card.
        paper: the paper's value where it differs from the default.
        in_paper: whether the paper gives a value at all.
        imagenet: the value for large images and 1,000 classes, where it differs from the default, which is the one for
            CIFAR-100 and its like; taken under ``--defaults imagenet``.
        source: where the default, and the value for ImageNet, come from: a table, a file of the authors' code, or a
            word such as "kdzoo" where nobody gives one.
        added: whether it came when the strategy had records already, which say what its default says: with the
            default it is left out of a cell's name, so that they stand for the same cell.
        ge, gt, le, lt: bounds of the valid values (at least, above, at most, below).
        choices: the only valid values, for a closed set.
        search: lowest and highest value that tuning tries (inclusive); None keeps the parameter out of tuning.
        log: whether tuning samples on a log scale.
    """

    default: Value
    help: str = ""
    _: KW_ONLY
    paper: Value | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Value, ...] = ()
    search: tuple[float, float] | None = None
    log: bool = False
    in_paper: bool = True
    added: bool = False
    imagenet: Value | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for value in (self.default, self.paper, self.imagenet, *(self.search or ())):
            if value is not None:
                self.check("default, paper, imagenet or search value", value)

    @property
    def type(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The type of every valid value."""
        return type(self.default)

    @property
    def valid(self) -> str:
        """The valid values in words, for cards and error messages."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        words = {"at least": self.ge, "above": self.gt, "at most": self.le, "below": self.lt}
        bounds = " and ".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[self.type]
        return f"{kind} {bounds}".strip()

    def check(self, name: str, value: Any) -> Value:
        """The value in the parameter's own type.

        Args:
            name: the full name for the message, such as ``soft.temperature``.
            value: a Python or YAML scalar.

        Raises:
            UsageError: the value has the wrong type or is out of range.
        """
        wrong = UsageError(f"{name} must be {self.valid}, not {reprlib.repr(value)}")
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            raise wrong
        if self.choices and value not in self.choices:
            raise wrong
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise UsageError(f"{name} must have at most {LONGEST_TEXT:,} characters, not {len(value):,}")
        if isinstance(value, (int, float)):
            # Each comparison is false for NaN, so NaN is refused by every bound and by the last line.
            fits = (
                (self.ge is None or value >= self.ge)
                and (self.gt is None or value > self.gt)
                and (self.le is None or value <= self.le)
                and (self.lt is None or value < self.lt)
                and abs(value) != float("inf")
                and value == value  # noqa: PLR0124
            )
            if not fits:
                raise wrong
        return value


def resolve(owner: str, declared: Mapping[str, Param], values: Mapping[str, Any]) -> dict[str, Value]:
    """Every hyperparameter's value: the given ones, checked, over the defaults.

    Args:
        owner: the strategy's name, for messages.
        declared: its hyperparameters.
        values: the given ones, Python or YAML scalars.

    Raises:
        UsageError: an unknown name, a wrong type or a value out of range.
    """
    for name in values:
        if name not in declared:
            raise UsageError(unknown(f"parameter of {owner}", name, declared))
    return {name: spec.check(f"{owner}.{name}", values.get(name, spec.default)) for name, spec in declared.items()}


def param(
    default: _T,
    help: str = "",
    *,
    paper: _T | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[_T, ...] = (),
    search: tuple[float, float] | None = None,
    log: bool = False,
    in_paper: bool = True,
    added: bool = False,
    imagenet: _T | None = None,
    source: str = "",
) -> _T:
    """Declare a hyperparameter in the body of a strategy: ``temperature: float = param(4.0, "softens", gt=0)``.

    The arguments are those of :class:`Param`. The declared type is the value's type, because on an instance the
    attribute is the value itself.
    """
    return cast(
        _T,
        Param(
            default,
            help,
            paper=paper,
            ge=ge,
            gt=gt,
            le=le,
            lt=lt,
            choices=choices,
            search=search,
            log=log,
            in_paper=in_paper,
            added=added,
            imagenet=imagenet,
            source=source,
        ),
    )
