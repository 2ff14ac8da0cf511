"""How a dataset's name is written: its subset, and characters that would mean something else."""

from __future__ import annotations

import re
import reprlib

from kdzoo.errors import UsageError

_PLAIN = r"(?:[^\[\]\\]|\\[\[\],]|\\(?![\[\],]))+"
_SUBSET = re.compile(rf"(?P<name>{_PLAIN})(?:\[:(?P<count>[0-9]{{1,12}})\])?")


def parse_subset(name: str) -> tuple[str, int | None]:
    r"""Take ``fashion_mnist[:5000]`` apart; the count is None where there is no subset.

    A backslash before a bracket or a comma makes it a part of the name: ``folder:pets\[1\][:5000]``.

    Raises:
        UsageError: the bracket has another form.
    """
    match = _SUBSET.fullmatch(name)
    if name and (match is None or (match["count"] and int(match["count"]) == 0)):
        raise UsageError(
            f"dataset {reprlib.repr(name)}: write a subset of train as name[:count], for example fashion_mnist[:5000], "
            r"and a bracket that is part of the name as \[ or \]"
        )
    if match is None:
        return name, None
    return unescape(match["name"]), int(match["count"]) if match["count"] else None


def escape(name: str) -> str:
    """A name with its brackets written so that :func:`parse_subset` takes them for what they are."""
    return re.sub(r"([\[\]])", r"\\\1", name)


def unescape(name: str) -> str:
    """A name without the backslashes before its brackets and commas."""
    return re.sub(r"\\([\[\],])", r"\1", name)
