"""Files and flags -> one frozen, validated configuration of a bench."""

from __future__ import annotations

import math
import re
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError, model_validator

from kdzoo.errors import UsageError, unknown
from kdzoo.files import from_home
from kdzoo.flags import OPTIONS, split_list
from kdzoo.inputs import AskedInput, parse_size, read_input
from kdzoo.recipe import MOST_EPOCHS
from kdzoo.refs import Frozen, Scalar
from kdzoo.space import RecipeKey, parse_range
from kdzoo.study import Pruner
from kdzoo.yamltext import read_scalar, read_yaml, shipped, validate

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
Rerun = Literal["never", "safe", "failed", "always"]
BankMode = Literal["auto", "off", "ram", "disk"]
BankDtype = Literal["float16", "bfloat16", "float32"]
_BYTES = TypeAdapter(ByteSize)
StudentInit = Literal["random", "pretrained"]
TEACHER_WEIGHTS = ("auto", "train", "pretrained")


def _as_list(value: Any) -> Any:
    """A comma list or a single name, as YAML and flags write them, is a list."""
    if isinstance(value, str):
        return split_list(value)
    return tuple(value) if isinstance(value, list) else value


def _checked_size(value: Any) -> Any:
    if value is not None:
        parse_size(value)
    return value


def _checked_pairs(value: Any) -> Any:
    if not _are_pairs(value):
        raise ValueError(f"must be a list of [teacher, student], not {value!r}")
    return tuple(tuple(pair) for pair in value)


def _checked_setting(value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str, type(None))) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(f"must be a single, finite value, not {value!r}")
    return value


def _checked_range(value: str) -> str:
    parse_range(value)
    return value


def _checked_weights(value: str) -> str:
    if value not in TEACHER_WEIGHTS and not set(value) & set("./\\"):
        raise ValueError(unknown("kind of weights", value, TEACHER_WEIGHTS) + f" (a file here is written ./{value})")
    return value


def _checked_input(value: Any) -> Any:
    return None if value is None else read_input(value)


def _checked_workers(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    count = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"must be a number from 1 to 9999, or auto, not {reprlib.repr(value)}")
    return count


def _checked_mode(value: Any) -> Any:
    return "off" if value is False else value  # as YAML reads a bare off


def _checked_bytes(value: Any) -> Any:
    parse_bytes(value)
    return value


HomePath = Annotated[str, AfterValidator(from_home)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class BenchConfig(Frozen):
    """What a bench is asked to do. :data:`kdzoo.flags.OPTIONS` describes each key."""

    strategies: CommaList
    dataset: CommaList
    teacher: CommaList = ()
    student: CommaList = ()
    pairs: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_checked_pairs)] = ()
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 3
    recipe: str = "quick"
    teacher_recipe: str | None = None
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    teacher_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    teacher_weights: Annotated[HomePath, AfterValidator(_checked_weights)] = "auto"
    teacher_input: Annotated[AskedInput | None, BeforeValidator(_checked_input)] = None
    trust_teacher: bool = False
    student_init: StudentInit | None = None
    img_size: Annotated[int | str | None, BeforeValidator(_checked_size)] = None
    defaults: Literal["cifar", "imagenet"] = "cifar"
    balance: Annotated[float, Field(ge=0)] = 0
    set: dict[str, Annotated[Scalar, BeforeValidator(_checked_setting)]] = Field(default={})
    tune: Annotated[int, Field(ge=1, le=10_000)] | None = None
    tune_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    tune_recipe: Annotated[tuple[RecipeKey, ...], BeforeValidator(_as_list)] = ()
    search: dict[str, Annotated[str, AfterValidator(_checked_range)]] = Field(default={})
    pruner: Pruner = "none"
    tune_batch: Annotated[int, Field(ge=1)] = 1
    data_dir: HomePath | None = None
    download: bool = False
    device: Device = "auto"
    precision: Precision | None = None
    eval_every: Annotated[int, Field(ge=1)] = 1
    compile: bool = False
    views: Annotated[int, Field(ge=0)] | None = None
    bank: Annotated[BankMode, BeforeValidator(_checked_mode)] = "auto"
    bank_budget: Annotated[int | str, BeforeValidator(_checked_bytes)] = "4GiB"
    bank_dtype: BankDtype = "float16"
    out: HomePath = "runs"
    rerun: Rerun = "safe"
    log_with: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    workers: Annotated[int | Literal["auto"] | None, BeforeValidator(_checked_workers)] = None
    lockstep: Annotated[int, Field(ge=1)] = 1
    executor: Literal["local", "ray", "command"] = "local"
    command: str | None = None
    address: str | None = None
    shared_store: bool = True
    cpus_per_cell: Annotated[int, Field(ge=1)] = 1
    gpus_per_cell: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> BenchConfig:
        if self.pairs and (self.teacher or self.student):
            raise ValueError("give either pairs, or teacher and student")
        if not self.all_pairs():
            raise ValueError("give a teacher and a student")
        if self.teacher_input and self.teacher_weights in TEACHER_WEIGHTS:
            raise ValueError("teacher_input is for weights from a file: give that file too (teacher_weights)")
        if self.balance and self.tune is not None:
            raise ValueError("balance sets the weights that tuning would search: leave out balance or tune")
        if self.lockstep > 1 and (self.workers not in (None, 1) or self.executor != "local"):
            raise ValueError("lockstep is for cells of one process: leave out workers and executor")
        if self.eval_every != 1 and self.pruner != "none":
            raise ValueError(
                f"eval_every {self.eval_every} skips epochs, but the {self.pruner} pruner needs a value after "
                f"each: leave out eval_every or the pruner"
            )
        for key in self._changed_of("tune", self.tune is not None):
            raise ValueError(f"{key} belongs to tuning: give the number of trials too (tune)")
        for key in self._changed_of("ray", self.executor == "ray"):
            raise ValueError(f"{key} belongs to a cluster: give the executor ray too")
        for key in self._changed_of("command", self.executor == "command"):
            raise ValueError(f"{key} belongs to the executor command: give that executor too")
        return self

    def _changed_of(self, needed: str, given: bool) -> list[str]:
        """The keys with another value than their default that need something which is not given."""
        keys = [] if given else [name for name, option in OPTIONS.items() if option.needs == needed]
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]

    @model_validator(mode="after")
    def _command_fits(self) -> BenchConfig:
        if self.executor != "command":
            return self
        try:
            words = shlex.split(self.command or "")
        except ValueError as error:
            raise ValueError(f"command {self.command!r} is no line of a shell: {str(error).lower()}") from None
        if not any("{command}" in word for word in words):
            raise ValueError(
                "the executor command needs a command with {command} in it, such as 'sbatch --wait --wrap {command}'"
            )
        if self.workers == "auto":
            raise ValueError("workers auto measures this machine: give a number, or leave it out, with a command")
        if self.pruner != "none":
            raise ValueError(
                "the executor command runs each cell separately: leave out the pruner, which compares trials"
            )
        return self

    def all_pairs(self) -> list[tuple[str, str]]:
        """(teacher, student) pairs: the listed ones, or each teacher with each student."""
        return list(self.pairs) or [(teacher, student) for teacher in self.teacher for student in self.student]

    def size(self) -> tuple[int, int] | None:
        """Height and width of the images, pixels, or None for the dataset's own."""
        return None if self.img_size is None else parse_size(self.img_size)


def parse_bytes(text: Any) -> int:
    """Read a size such as ``4GiB``, ``500MB`` or a number of bytes.

    Raises:
        ValueError: it is something else, or not positive.
    """
    try:
        count = int(_BYTES.validate_python(text))
    except ValidationError:
        count = 0
    if count <= 0:
        raise ValueError(f"must be a size such as 4GiB or 500MB, not {text!r}")
    return count


def load_bench(source: str, flags: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> BenchConfig:
    """A bench from a shipped name or a YAML file, with the given flags over it.

    Args:
        source: ``quick`` or another shipped name, or the path of a YAML file.
        flags: keys of :class:`BenchConfig`; those that are None are left to the file.
        defaults: keys for where neither says anything, over :class:`BenchConfig`'s own.

    Raises:
        UsageError: the file is missing or malformed, or a key or value is wrong.
    """
    values = {**(defaults or {}), **read_yaml("bench", source)}
    given = {key: value for key, value in flags.items() if value is not None}
    if "teacher" in given or "student" in given:
        _set_aside_pairs(values)
    for key in ("epochs", "precision", "views"):
        if f"recipe.{key}" in given.get("set", {}):
            if key in given:
                raise UsageError(f"give --{key} or --set recipe.{key}, not both")
            values.pop(key, None)
    names = {key: "--" + key.replace("_", "-") for key in given}
    for table in ("set", "search"):
        names |= {f"{table}.{key}": f"--{table} {key}" for key in given.get(table, {})}
        if values.get(table) is None:
            values[table] = {}
        if isinstance(values[table], dict):
            given[table] = {**values[table], **given.get(table, {})}
    where = f"bench {source}" if source in shipped("bench") else source
    return validate(BenchConfig, {**values, **given}, where, names)


def _set_aside_pairs(values: dict[str, Any]) -> None:
    """A pair on the command line replaces the file's pairs; the side that is not given stays the file's."""
    pairs = values.get("pairs")
    if isinstance(pairs, list) and _are_pairs(pairs):
        del values["pairs"]
        for side, place in (("teacher", 0), ("student", 1)):
            values.setdefault(side, list(dict.fromkeys(pair[place] for pair in pairs)))


def _are_pairs(pairs: Any) -> bool:
    lists = isinstance(pairs, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in pairs)
    return lists and all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs)


def parse_settings(texts: Iterable[str]) -> dict[str, Scalar]:
    """Read ``soft.temperature=2`` and ``recipe.lr=0.1``; values as in YAML, and ``key=`` gives an empty text.

    Raises:
        UsageError: a text has another form.
    """
    return {key: read_scalar(value) if value else "" for key, value in _pieces("--set", texts, "value")}


def parse_ranges(texts: Iterable[str]) -> dict[str, str]:
    """Read ``soft.temperature=1:20:log`` and ``recipe.lr=0.01:1:log``.

    Raises:
        UsageError: a text has another form.
    """
    ranges = dict(_pieces("--search", texts, "low:high[:log]"))
    if empty := [key for key, value in ranges.items() if not value]:
        raise UsageError(f"--search {empty[0]}=: write strategy.param=low:high[:log] or recipe.key=low:high[:log]")
    return ranges


def _pieces(flag: str, texts: Iterable[str], what: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, equals, value = text.partition("=")
        owner, dot, name = key.strip().partition(".")
        if not (equals and owner and dot and name):
            raise UsageError(f"{flag} {text}: write strategy.param={what} or recipe.key={what}")
        yield key.strip(), value.strip()
