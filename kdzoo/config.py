"""Files and flags -> one frozen, validated configuration of a bench."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from kdzoo.cell import Frozen, Scalar
from kdzoo.errors import UsageError, unknown
from kdzoo.recipe import Augment, Recipe
from kdzoo.yamltext import read_mapping, read_scalar

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
Rerun = Literal["never", "failed", "always"]
M = TypeVar("M", bound=BaseModel)


def _as_list(value: Any) -> Any:
    """A comma list or a single name, as YAML and flags write them, is a list."""
    if isinstance(value, str):
        return split_list(value)
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class BenchConfig(Frozen):
    """What a bench is asked to do. Every key is also a flag of ``kdzoo bench``, but for ``pairs``.

    Args:
        strategies: names of strategies; ``all`` for every one that is installed. ``ce`` is always added.
        dataset: names of datasets, each with an optional subset as in ``fashion_mnist[:5000]``.
        teacher: timm names; each is paired with each student.
        student: timm names.
        pairs: [teacher, student] pairs, instead of teacher and student.
        seeds: how many seeds each strategy is trained with.
        recipe: name of a shipped recipe, or a YAML file.
        teacher_recipe: the recipe of the teacher's training; by default the students'.
        epochs: length of the training, over the recipe's.
        teacher_epochs: length of the teacher's training, over its recipe's.
        teacher_weights: ``auto``, ``train``, ``pretrained`` or a file.
        img_size: size at which networks see images, pixels: one number, or HEIGHTxWIDTH.
        set: single changes, ``strategy.param`` or ``recipe.key`` -> value.
        data_dir: folder of the datasets' files.
        download: whether a missing dataset may be fetched.
        device: ``auto`` takes the first accelerator there is.
        precision: over the recipe's.
        out: folder of the runs.
        rerun: which finished cells run again: none (``never``), those that ``failed``, or ``always`` all.
    """

    strategies: Names
    dataset: Names
    teacher: Names = ()
    student: Names = ()
    pairs: tuple[tuple[str, str], ...] = ()
    seeds: Annotated[int, Field(ge=1)] = 3
    recipe: str = "quick"
    teacher_recipe: str | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    teacher_epochs: Annotated[int, Field(ge=1)] | None = None
    teacher_weights: str = "auto"
    img_size: int | str | None = None
    set: dict[str, Scalar] = Field(default={})
    data_dir: str | None = None
    download: bool = False
    device: Device = "auto"
    precision: Precision | None = None
    out: str = "runs"
    rerun: Rerun = "failed"

    @model_validator(mode="after")
    def _something_to_do(self) -> BenchConfig:
        for key in ("strategies", "dataset"):
            if not getattr(self, key):
                raise ValueError(f"{key} is empty")
        if not self.all_pairs():
            raise ValueError("give a teacher and a student")
        self.size()
        return self

    def all_pairs(self) -> list[tuple[str, str]]:
        """(teacher, student) pairs: the listed ones, or each teacher with each student."""
        return list(self.pairs) or [(teacher, student) for teacher in self.teacher for student in self.student]

    def size(self) -> tuple[int, int] | None:
        """Height and width of the images, pixels, or None for the dataset's own."""
        return None if self.img_size is None else parse_size(self.img_size)


def parse_size(text: str | int) -> tuple[int, int]:
    """Read ``32`` or ``32x48`` (height x width).

    Raises:
        ValueError: it is something else, or not positive.
    """
    pieces = str(text).lower().split("x")
    sides = [int(piece) if piece.isascii() and piece.isdigit() else 0 for piece in pieces]
    if len(sides) > 2 or not all(sides):
        raise ValueError(f"img_size must be a size in pixels such as 32 or 32x48, not {text!r}")
    return sides[0], sides[-1]


def split_list(text: str) -> tuple[str, ...]:
    """The names of a comma list; spaces around them do not count."""
    return tuple(piece.strip() for piece in text.split(",") if piece.strip())


def load_bench(source: str, flags: Mapping[str, Any]) -> BenchConfig:
    """A bench from a shipped name or a YAML file, with the given flags over it.

    Args:
        source: ``quick`` or another shipped name, or the path of a YAML file.
        flags: keys of :class:`BenchConfig`; those that are None are left to the file.

    Raises:
        UsageError: the file is missing or malformed, or a key or value is wrong.
    """
    values = read_yaml("bench", source)
    given = {key: value for key, value in flags.items() if value is not None}
    if "teacher" in given or "student" in given:
        # A pair on the command line replaces the file's pairs; the side that is not given stays the file's.
        pairs = values.pop("pairs", None) or []
        for side, place in (("teacher", 0), ("student", 1)):
            values.setdefault(side, list(dict.fromkeys(pair[place] for pair in pairs)))
    given["set"] = {**(values.get("set") or {}), **given.get("set", {})}
    return validate(BenchConfig, {**values, **given}, "the bench" if given else source)


def load_recipe(source: str, changes: Mapping[str, Any]) -> Recipe:
    """A recipe from a shipped name or a YAML file, with single changes, which show in its name.

    Args:
        source: a shipped name, or the path of a YAML file.
        changes: dotted keys such as ``lr`` or ``augment.crop`` -> value; a value that changes nothing is left out.

    Raises:
        UsageError: the file is missing or malformed, or a key or value is wrong.
    """
    values = {"name": Path(source).stem, **read_yaml("recipes", source)}
    base = validate(Recipe, values, f"recipe {source}")
    changed = dict(values)
    name = base.name
    for key, value in sorted(changes.items()):
        outer, _, inner = key.partition(".")
        known = [*Recipe.model_fields, *(f"augment.{field}" for field in Augment.model_fields)]
        if key not in known or key in ("name", "augment"):
            raise UsageError(unknown("key of the recipe", key, known))
        current = getattr(base.augment, inner) if inner else getattr(base, outer)
        if value == current and type(value) is type(current):
            continue
        if inner:
            changed["augment"] = {**(changed.get("augment") or {}), inner: value}
        else:
            changed[outer] = value
        name += f"+{inner or outer}={value}"
    return validate(Recipe, {**changed, "name": name}, f"recipe {source}")


def validate(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Build a typed value from YAML's plain ones, with one clear sentence where that fails.

    Raises:
        UsageError: naming the first wrong key, with the closest known names if it is unknown.
    """
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            fields = Augment.model_fields if place.startswith("augment.") else model.model_fields
            raise UsageError(f"{where}: " + unknown("key", place.rpartition(".")[2], fields)) from None
        message = first["msg"].removeprefix("Value error, ")
        if place:
            message = f"{place}: {message[0].lower()}{message[1:]}, not {first['input']!r}"
        raise UsageError(f"{where}: {message}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None


def read_yaml(kind: Literal["bench", "recipes"], source: str) -> dict[str, Any]:
    """The mapping in a shipped file (``quick``) or in a file of the user's own (``path/to/mine.yaml``).

    Raises:
        UsageError: there is no such file, or it is not a YAML mapping; the line is named.
    """
    path = Path(source)
    if source in shipped(kind):
        text = (_folder(kind) / f"{source}.yaml").read_text(encoding="utf-8")
    elif path.suffix in (".yaml", ".yml") or path.exists():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UsageError(f"{source} cannot be read: {reason.lower()}") from None
    else:
        noun = {"bench": "bench", "recipes": "recipe"}[kind]
        raise UsageError(unknown(noun, source, shipped(kind)) + ", or give a .yaml file")
    return read_mapping(text, source)


def shipped(kind: Literal["bench", "recipes"]) -> list[str]:
    """Names of the benches or recipes that come with kdzoo."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder(kind).iterdir() if path.name.endswith(".yaml"))


def _folder(kind: str) -> Any:
    package = resources.files("kdzoo")
    installed = package / "configs" / kind
    # In a checkout installed in place the files are still where they are edited, beside the package.
    return installed if installed.is_dir() else Path(str(package)).parent / "configs" / kind


def parse_settings(texts: Iterable[str]) -> dict[str, Scalar]:
    """Read ``soft.temperature=2`` and ``recipe.lr=0.1``; values as in YAML.

    Raises:
        UsageError: a text has another form.
    """
    settings: dict[str, Scalar] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        owner, dot, name = key.strip().partition(".")
        if not (equals and owner and dot and name and value.strip()):
            raise UsageError(f"--set {text}: write strategy.param=value or recipe.key=value")
        settings[key.strip()] = read_scalar(value)
    return settings
