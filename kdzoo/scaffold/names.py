"""From the name that a person chooses to the names in the code: distribution, package, class."""

from __future__ import annotations

import builtins
import keyword
import re
from dataclasses import dataclass

import kdzoo
from kdzoo.api import RESERVED
from kdzoo.errors import UsageError
from kdzoo.scaffold.project import Kind, names_in_modules

LONGEST = 40
_FORM = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_MEANT = frozenset({*dir(builtins), *keyword.kwlist, *kdzoo.__all__})


@dataclass(frozen=True)
class Names:
    """The names of a new plugin.

    Args:
        name: what the command line calls the strategy or dataset.
        distribution: what pip calls the package.
        package: what Python imports.
        class_name: the class.
    """

    name: str
    distribution: str
    package: str
    class_name: str


def read_name(text: str, kind: Kind = "strategy") -> Names:
    """All names that follow from one, for example ``my-strategy``: kdzoo-my-strategy, kdzoo_my_strategy, MyStrategy.

    Args:
        text: the name as the person gave it.
        kind: what it shall name; the class takes it as a suffix where its own name means something already.

    Raises:
        UsageError: it cannot be a name; whether it is taken is :func:`kdzoo.scaffold.taken.check_free`'s question.
    """
    if not _FORM.fullmatch(text):
        close = "_".join(re.findall(r"[a-z0-9]+", text.lower()))
        example = close if _FORM.fullmatch(close) else "my-strategy"
        raise UsageError(
            f"{text!r} cannot be a name: it starts with one of a-z and goes on with a-z, 0-9 and single - or _, "
            f"for example {example}"
        )
    if len(text) > LONGEST:
        raise UsageError(f"{text!r} is too long, {len(text)} characters: choose a name of at most {LONGEST}")
    if re.match(r"kdzoo(?![a-z0-9])", text):
        raise UsageError(f"leave the kdzoo out of {text!r}: it is put in front of the distribution's name anyway")
    if keyword.iskeyword(text):
        raise UsageError(f"{text!r} is a word of the Python language: choose another name")
    if text in RESERVED:
        raise UsageError(f"{text!r} has a meaning of its own on the command line: choose another name")
    parts = re.split("[-_]", text)
    class_name = "".join(part.capitalize() for part in parts)
    if class_name in _MEANT | names_in_modules(kind):
        class_name += kind.capitalize()
    return Names(text, "-".join(["kdzoo", *parts]), "_".join(["kdzoo", *parts]), class_name)
