"""The part of docs/api.md that lists every public name with its types, made from the code."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, ForwardRef, get_origin

import kdzoo
import kdzoo.testing
from kdzoo.record import Summary

WIDTH = 110


def public_signatures() -> str:
    """A fenced block: classes with their attributes and methods, functions, and types with what they stand for."""
    lines = [f"kdzoo, interface {kdzoo.API_VERSION}"]
    for module in (kdzoo, kdzoo.testing):
        if module is not kdzoo:
            lines += ["", module.__name__]
        for name in sorted(module.__all__, key=lambda name: (name[0] == "_", name.lower())):
            lines += ["", *_described(name, getattr(module, name))]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isroutine(value):
        yield from _call(name, value, "")
    elif isinstance(value, str):
        yield f"{name}: str"
    elif isinstance(value, tuple):
        yield f"{name}: tuple[{type(value[0]).__name__}, ...]"
    elif get_origin(value) is not None:
        yield f"{name} = {_type(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _class(name: str, kind: type) -> Iterator[str]:
    parents = [one for base in kind.__bases__ for one in (base.__bases__ if _is_part(base) else (base,))]
    bases = [base.__name__ for base in parents if base is not object and not base.__name__.startswith("_")]
    yield f"class {name}" + (f"({', '.join(bases)})" if bases else "")
    for attribute, annotation in _attributes(kind).items():
        yield f"    {attribute}: {annotation}"
    for attribute, found in vars(kind).items():
        member = inspect.unwrap(found.__func__) if isinstance(found, (classmethod, staticmethod)) else found
        if (attribute.startswith("_") and attribute != "__call__") or attribute in _attributes(kind):
            continue
        if isinstance(member, property) or hasattr(member, "func"):
            getter: Any = getattr(member, "fget", None) or getattr(member, "func", None)
            yield f"    {attribute}: {_type(inspect.signature(getter).return_annotation)}"
        elif inspect.isfunction(member):
            yield from _call(attribute, member, "    ")


def _is_part(kind: type) -> bool:
    """Whether a class is listed only as a part of the public classes that derive from it."""
    return kind is Summary


def _attributes(kind: type) -> dict[str, str]:
    """The annotated attributes of a class itself, and what its own ``__init__`` takes where that says more."""
    annotated = {name: each for base in filter(_is_part, kind.__bases__) for name, each in _annotations(base)}
    own = {name: _type(each) for name, each in (annotated | dict(_annotations(kind))).items()}
    if dataclasses.is_dataclass(kind) or own or "__init__" not in vars(kind):
        return own
    return {}


def _annotations(kind: type) -> list[tuple[str, Any]]:
    hidden = ("_", "model_config")
    return [one for one in vars(kind).get("__annotations__", {}).items() if not one[0].startswith(hidden)]


def _call(name: str, function: Any, indent: str) -> Iterator[str]:
    signature = inspect.signature(function)
    shown = [_parameter(each) for each in signature.parameters.values()]
    gives = signature.return_annotation
    given = "" if gives is inspect.Signature.empty else f" -> {_type(gives)}"
    whole = f"{indent}{name}({', '.join(_marked(signature, shown))}){given}"
    if len(whole) <= WIDTH:
        yield whole
        return
    yield f"{indent}{name}("
    for part in _marked(signature, shown):
        yield f"{indent}    {part},"
    yield f"{indent}){given}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {_type(parameter.annotation)}"
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _marked(signature: inspect.Signature, shown: list[str]) -> list[str]:
    """The parameters, with a star before those that have names only."""
    kinds = [each.kind for each in signature.parameters.values()]
    named = inspect.Parameter.KEYWORD_ONLY
    if named in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        place = kinds.index(named)
        return [*shown[:place], "*", *shown[place:]]
    return shown


def _type(annotation: Any) -> Any:
    """A type as it is written in the code."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")
