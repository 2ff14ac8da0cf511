"""What ``--teacher-input`` says: how the network of a file of weights is shown images."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kdzoo.errors import unknown
from kdzoo.refs import Input
from kdzoo.yamltext import read_scalar, validate


class AskedInput(Input):
    """An :class:`~kdzoo.cell.Input` as a person gives it; one number of ``mean`` or ``std`` stands for every channel.

    Args:
        rest: whose way counts where nothing is given: that which the ``file`` tells, or the one of the ``data``.
    """

    rest: Literal["file", "data"] = "file"


def read_input(given: Any) -> AskedInput:
    """Read ``mean=0.5,std=0.5/0.4/0.5,size=32x48``, or the mapping that says so in YAML.

    Raises:
        ValueError: it has another form.
        UsageError: an unknown key or a wrong value.
    """
    if isinstance(given, AskedInput):
        return given
    if isinstance(given, Mapping):
        values = {str(key): value for key, value in given.items()}
    else:
        pieces = [_piece(piece) for piece in str(given).split(",")]
        values = dict(pieces)
        if len(values) < len(pieces):
            raise ValueError(f"must name each key once, not {given!r}")
    known = [*AskedInput.model_fields]
    if wrong := [key for key in values if key not in known]:
        raise ValueError(unknown("key of the input", wrong[0], known))
    for key in ("mean", "std"):
        if key in values and values[key] is not None:
            values[key] = _numbers(values[key])
    if values.get("size") is not None:
        size = values["size"]
        try:
            values["size"] = parse_size("x".join(map(str, size)) if isinstance(size, (list, tuple)) else size)
        except ValueError as error:
            raise ValueError(f"size {error}") from None
    return validate(AskedInput, values, "teacher_input")


def _piece(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise ValueError(f"must be as in mean=0.5,std=0.5,size=32 (a number a channel as in 0.5/0.4/0.5), not {text!r}")
    return key.strip(), read_scalar(value)


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [read_scalar(piece) for piece in value.split("/")]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def parse_size(text: Any) -> tuple[int, int]:
    """Read ``32`` or ``32x48`` (height x width).

    Raises:
        ValueError: it is something else, or not positive.
    """
    pieces = str(text).lower().split("x")
    sides = [int(piece) if re.fullmatch(r"[0-9]{1,5}", piece) else 0 for piece in pieces]
    if len(sides) > 2 or not all(sides):
        raise ValueError(f"must be a size in pixels such as 32 or 32x48, not {reprlib.repr(text)}")
    return sides[0], sides[-1]


def input_text(shown: Input) -> str:
    """An input in words: ``32x32, mean 0.5, std 0.5``; what is the dataset's is left out."""
    parts = ["{}x{}".format(*shown.size)] if shown.size else []
    parts += [f"{name} {_joined(values)}" for name, values in (("mean", shown.mean), ("std", shown.std)) if values]
    parts += [f"crop {shown.crop:.4g}"] if shown.crop else []
    parts += [f"interpolation {shown.interpolation}"] if shown.interpolation else []
    return ", ".join(parts)


def _joined(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4g}" for value in (values[:1] if len(set(values)) == 1 else values))
