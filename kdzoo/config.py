"""Files and flags -> one frozen, validated configuration of a bench."""

from __future__ import annotations

import math
import re
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError, model_validator

from kdzoo.cell import Frozen, Scalar
from kdzoo.errors import UsageError, unknown
from kdzoo.files import from_home
from kdzoo.inputs import AskedInput, read_input
from kdzoo.recipe import LONGEST, Augment, Recipe
from kdzoo.shipped import read_yaml, shipped
from kdzoo.space import RecipeKey, parse_range
from kdzoo.study import Pruner
from kdzoo.validation import validate
from kdzoo.yamltext import read_scalar

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


Place = Annotated[str, AfterValidator(from_home)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


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
        teacher_input: how the network of a file of weights is shown images, over what the file tells: any of ``mean``,
            ``std``, ``size``, ``crop`` and ``interpolation``; with ``rest: data`` the file is not asked.
        trust_teacher: whether a teacher may teach that is not above chance on test. Its records say so.
        student_init: what students start from: ``random``, or timm's ``pretrained`` weights with a head of the
            dataset's classes; must be said where a student's name says which weights are meant.
        img_size: size at which networks see images, pixels: one number, or HEIGHTxWIDTH.
        set: single changes, ``strategy.param`` or ``recipe.key`` -> value.
        tune: trials of each study of tuning; none by default.
        tune_epochs: length of a trial; by default that of the training.
        tune_recipe: keys of the recipe that are searched too, for every strategy alike.
        search: ``strategy.param`` or ``recipe.key`` -> ``low:high`` or ``low:high:log``, over the declared range.
        pruner: what ends trials early: ``none``, ``median`` or ``hyperband``.
        tune_batch: trials of a study that are asked for at a time.
        data_dir: folder of the datasets' files.
        download: whether a missing dataset may be fetched.
        device: ``auto`` takes the first accelerator there is.
        precision: over the recipe's.
        eval_every: after how many epochs tune is measured; after the last one it always is. With a pruner it is 1.
        compile: whether student and teacher run through torch.compile.
        views: how many different views of each sample the students' training cycles through, over the recipe's.
        bank: where the teacher's signals are kept for the cells that share them: in memory (``ram``), on ``disk``,
            nowhere (``off``), or what fits and pays (``auto``).
        bank_budget: how much is kept, as in ``4GiB`` or ``500MB``.
        bank_dtype: of kept embeddings and stages: ``float16``, ``bfloat16`` or ``float32``.
        out: folder of the runs.
        rerun: which finished cells run again: none (``never``), those that failed but did not end their process
            (``safe``), all that ``failed``, or ``always`` all.
        log_with: trackers that log each cell: ``tensorboard``, ``wandb``, ``mlflow``, or a plugin's.
        workers: cells that run at a time: a number, or ``auto`` to measure what is fastest; by default 1, with Ray as
            many as the cluster has room for.
        lockstep: how many cells may share each pass of a teacher that runs in the loop.
        executor: ``local`` for this machine, ``ray`` for a Ray cluster, ``command`` for the scheduler of another one.
        command: what starts a cell with the executor ``command``: its words, with ``{command}`` where the command line
            of the cell stands, and ``{cell}`` for the id of the cell.
        address: of the Ray cluster; by default one that runs here, or else one that is started for the bench.
        shared_store: whether all machines of the cluster see the folder of the runs under the same path.
        cpus_per_cell: processors that a cell asks of the cluster, and its threads.
        gpus_per_cell: GPUs that a cell asks of the cluster, or a share of one; by default 1 where there are any.
    """

    strategies: Names
    dataset: Names
    teacher: Names = ()
    student: Names = ()
    pairs: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_checked_pairs)] = ()
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 3
    recipe: str = "quick"
    teacher_recipe: str | None = None
    epochs: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    teacher_epochs: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    teacher_weights: Annotated[Place, AfterValidator(_checked_weights)] = "auto"
    teacher_input: Annotated[AskedInput | None, BeforeValidator(_checked_input)] = None
    trust_teacher: bool = False
    student_init: StudentInit | None = None
    img_size: Annotated[int | str | None, BeforeValidator(_checked_size)] = None
    set: dict[str, Annotated[Scalar, BeforeValidator(_checked_setting)]] = Field(default={})
    tune: Annotated[int, Field(ge=1, le=10_000)] | None = None
    tune_epochs: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    tune_recipe: Annotated[tuple[RecipeKey, ...], BeforeValidator(_as_list)] = ()
    search: dict[str, Annotated[str, AfterValidator(_checked_range)]] = Field(default={})
    pruner: Pruner = "none"
    tune_batch: Annotated[int, Field(ge=1)] = 1
    data_dir: Place | None = None
    download: bool = False
    device: Device = "auto"
    precision: Precision | None = None
    eval_every: Annotated[int, Field(ge=1)] = 1
    compile: bool = False
    views: Annotated[int, Field(ge=0)] | None = None
    bank: Annotated[BankMode, BeforeValidator(_checked_mode)] = "auto"
    bank_budget: Annotated[int | str, BeforeValidator(_checked_bytes)] = "4GiB"
    bank_dtype: BankDtype = "float16"
    out: Place = "runs"
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
        if self.tune is None:
            for key in ("tune_epochs", "tune_recipe", "search", "pruner", "tune_batch"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} belongs to tuning: give the number of trials too (tune)")
        if self.lockstep > 1 and (self.workers not in (None, 1) or self.executor != "local"):
            raise ValueError("lockstep is for cells of one process: leave out workers and executor")
        if self.eval_every != 1 and self.pruner != "none":
            raise ValueError(
                f"eval_every {self.eval_every} leaves the {self.pruner} pruner, which judges each epoch of a trial, "
                "without values: leave eval_every or the pruner out"
            )
        if self.executor != "ray":
            for key in ("address", "shared_store", "cpus_per_cell", "gpus_per_cell"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} belongs to a cluster: give the executor ray too")
        return self

    @model_validator(mode="after")
    def _command_fits(self) -> BenchConfig:
        if self.executor != "command":
            if self.command is not None:
                raise ValueError("command belongs to the executor command: give that executor too")
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
                "the executor command runs each cell by itself: leave out the pruner, which compares trials"
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


def parse_size(text: Any) -> tuple[int, int]:
    """Read ``32`` or ``32x48`` (height x width).

    Raises:
        ValueError: it is something else, or not positive.
    """
    pieces = str(text).lower().split("x")
    sides = [int(piece) if re.fullmatch(r"[0-9]{1,5}", piece) else 0 for piece in pieces]
    if len(sides) > 2 or not all(sides):
        raise ValueError(f"img_size must be a size in pixels such as 32 or 32x48, not {reprlib.repr(text)}")
    return sides[0], sides[-1]


def split_list(text: str) -> tuple[str, ...]:
    r"""The names of a comma list; spaces around them do not count, and ``\,`` is a comma inside a name."""
    pieces = (piece.strip() for piece in re.split(r"(?<!\\),", text))
    return tuple(piece.replace(r"\,", ",") for piece in pieces if piece)


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


def load_recipe(source: str, changes: Mapping[str, Any]) -> Recipe:
    """A recipe from a shipped name or a YAML file, with single changes, which show in its name.

    Args:
        source: a shipped name, or the path of a YAML file.
        changes: dotted keys such as ``lr`` or ``augment.crop`` -> value; a value that changes nothing is left out.

    Raises:
        UsageError: the file is missing or malformed, or a key or value is wrong.
    """
    values = {"name": Path(source).stem, **read_yaml("recipes", source)}
    where = f"recipe {source}"
    base = validate(Recipe, values, where)
    changed = base.model_dump()
    for key, value in changes.items():
        known = [*Recipe.model_fields, *(f"augment.{field}" for field in Augment.model_fields)]
        known = [each for each in known if each not in ("name", "augment")]
        if key not in known:
            raise UsageError(unknown("key of the recipe", key, known))
        outer, _, inner = key.partition(".")
        if inner:
            changed["augment"][inner] = value
        else:
            changed[outer] = _numbers(value) if outer == "milestones" else value
    recipe = validate(Recipe, changed, where, {key: f"recipe.{key}" for key in changes})
    marks = [
        f"+{key.rpartition('.')[2]}={_plain(_at(recipe, key))}"
        for key in sorted(changes)
        if _at(recipe, key) != _at(base, key)
    ]
    return recipe.model_copy(update={"name": base.name + "".join(marks)})


def _at(recipe: Recipe, key: str) -> Any:
    outer, _, inner = key.partition(".")
    return getattr(recipe.augment, inner) if inner else getattr(recipe, outer)


def _numbers(value: Any) -> Any:
    """A list, which a flag writes with commas: ``0.5,0.75``."""
    return [read_scalar(piece) for piece in split_list(value.strip("[]"))] if isinstance(value, str) else [value]


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
