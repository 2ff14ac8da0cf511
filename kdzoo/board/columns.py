"""The columns of a board's frame: one declaration gives each its name, type, order of sorting and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from kdzoo.errors import UsageError, unknown
from kdzoo.measures import COST, IMAGES, TOP1, Measure

ColumnType = Literal["text", "integer", "number", "flag"]

DTYPES: dict[ColumnType, str] = {"text": "str", "integer": "Int64", "number": "float64", "flag": "bool"}
"""The pandas type of each kind of column; a missing text is empty, a missing number is NA."""


@dataclass(frozen=True)
class Column:
    """A column of the frame.

    Args:
        name: its name in the frame, in CSV and JSON, and for ``--sort``.
        kind: what its values are.
        help: what it says, with the unit.
        high: whether the highest value comes first when the board is sorted by it.
    """

    name: str
    kind: ColumnType
    help: str
    high: bool = False


def frame_columns(mains: Sequence[Measure], measures: Sequence[Measure]) -> tuple[Column, ...]:
    """The columns of a board's frame.

    Args:
        mains: the measures that rank its rows: one, or one for each kind of data.
        measures: all its measures, the main ones included.
    """
    names = " or ".join(main.name for main in mains)
    teachers = " or ".join(main.on("teacher") for main in mains)
    others = [measure for measure in measures if "frame" in measure.shown and measure not in mains]
    costs = [measure for measure in others if measure.volatile]
    return (
        Column("group", "integer", "number of the group; rows of different groups are not comparable"),
        Column("rank", "integer", f"rank by {names} within the group; ties share a rank"),
        *_SETTINGS,
        *_TEACHER,
        *(_teacher_column(main) for main in mains),
        *_STUDENT,
        *_SEEDS,
        *(column for main in mains for column in _main_columns(main)),
        *(_measure_column(measure) for measure in others if not measure.volatile),
        *(_tune_column(main) for main in mains),
        *_difference("ce", mains),
        *_difference("soft", mains),
        Column("bold", "flag", "whether the interval of the difference to ce excludes 0", high=True),
        Column(
            "gap_recovered",
            "number",
            f"({names} - ce) / (teacher - ce) on shared seeds, as a share; ce as in diff_ce_to",
            high=True,
        ),
        Column("gap_recovered_low", "number", "lower end of its 95% bootstrap-t interval", high=True),
        Column("gap_recovered_high", "number", "upper end of its 95% bootstrap-t interval", high=True),
        Column("gap_recovered_n", "integer", "seeds in gap_recovered", high=True),
        Column("gap_recovered_note", "text", "why there is no share or no interval"),
        Column("retention", "number", f"{names} / {teachers}, as a share", high=True),
        *(_measure_column(measure) for measure in costs if measure.unit == "seconds"),
        *_TIMES,
        *(_measure_column(measure) for measure in costs if measure.unit != "seconds"),
        Column("records", "text", "ids of the records, in the order of their seeds"),
    )


def _teacher_column(main: Measure) -> Column:
    text = f"test {main.title} of the teacher{main.unit_words}"
    return Column(main.on("teacher"), "number", text, high=main.best == "highest")


def _tune_column(main: Measure) -> Column:
    text = f"mean {main.title} on tune{main.unit_words}"
    return Column(main.on("tune"), "number", text, high=main.best == "highest")


def _main_columns(main: Measure) -> tuple[Column, ...]:
    high, name = main.best == "highest", main.name
    return (
        _measure_column(main),
        Column(f"{name}_sd", "number", f"its standard deviation over seeds (n-1){main.difference_words}"),
        Column(f"{name}_low", "number", "lower end of its 95% t interval", high=high),
        Column(f"{name}_high", "number", "upper end of its 95% t interval", high=high),
        Column(f"{name}_note", "text", "why there is no interval"),
    )


def _measure_column(measure: Measure) -> Column:
    kind: ColumnType = "integer" if measure.unit == "bytes" else "number"
    text = measure.help or f"mean {measure.title} on test{measure.unit_words}"
    return Column(measure.column, kind, text, high=measure.best == "highest")


def _difference(to: str, mains: Sequence[Measure]) -> tuple[Column, ...]:
    name = f"diff_{to}"
    units = {main.difference_words for main in mains}
    high = all(main.best == "highest" for main in mains)
    return (
        Column(
            name, "number", f"mean difference to {to} on shared seeds{units.pop() if len(units) == 1 else ''}", high
        ),
        Column(f"{name}_low", "number", "lower end of its 95% paired t interval", high),
        Column(f"{name}_high", "number", "upper end of its 95% paired t interval", high),
        Column(f"{name}_p", "number", "two-sided p value of the paired t test"),
        Column(f"{name}_p_holm", "number", "the p value, Holm-corrected over the rows of the pair"),
        Column(f"{name}_n", "integer", f"seeds that the row and {to} both have", high=True),
        Column(f"{name}_note", "text", "why there is no difference or no interval"),
        Column(
            f"{name}_to",
            "text",
            f"the {to} row that it is compared with: for a tuned row the {to} row tuned on the same budget if "
            f"there is any, else the default {to} row",
        ),
        Column(f"{name}_to_variant", "text", "variant of that row"),
    )


_SETTINGS: tuple[Column, ...] = (
    Column("dataset", "text", "dataset, with its subset"),
    Column("img_size", "text", "height x width of the images that networks see"),
    Column("fingerprint", "text", "hash of the samples and labels"),
    Column("recipe", "text", "name of the recipe, before tuning"),
    Column("recipe_hash", "text", "hash of everything in it"),
    Column("init", "text", "initial weights of the student"),
    Column("protocol", "integer", "version of the protocol"),
    Column("evaluation", "integer", "version of the evaluation"),
    Column("strategy", "text", "strategy, with distribution or revision where the name alone is ambiguous"),
    Column(
        "variant", "text", "tuned: the winner of a study; default: its trial 0; empty where no study concerns the row"
    ),
    Column("params", "text", "all its parameters, and what tuning changed in the recipe, as JSON"),
    Column("distribution", "text", "the distribution that provides the strategy"),
    Column("revision", "text", "revision of the strategy's maths"),
    Column("family", "text", "family of the strategy"),
)
_TEACHER: tuple[Column, ...] = (
    Column("teacher", "text", "teacher, with what distinguishes it from teachers of the same name"),
    Column("teacher_weights", "text", "where the teacher's weights come from"),
    Column("teacher_parameters", "integer", "parameters of the teacher"),
    Column("teacher_macs", "integer", "multiply-accumulates of the teacher, one sample"),
)
_STUDENT: tuple[Column, ...] = (
    Column("student", "text", "student"),
    Column("student_parameters", "integer", "parameters of the student"),
    Column("student_macs", "integer", "multiply-accumulates of the student, one sample"),
    Column("adapter_parameters", "integer", "parameters of the adapters, which only training needs"),
    Column("compression", "number", "teacher's parameters / student's parameters", high=True),
)
_SEEDS: tuple[Column, ...] = (
    Column("seeds", "integer", "requested seeds", high=True),
    Column("done", "integer", "seeds done: the n of every mean of the row", high=True),
    Column("failed", "integer", "seeds that failed", high=True),
    Column("missing", "integer", "seeds not run yet", high=True),
)
_TIMES: tuple[Column, ...] = (
    Column(
        "time_vs_ce",
        "number",
        "training time relative to ce, median over shared seeds, same device and threads; ce as in diff_ce_to",
    ),
    Column("time_vs_ce_low", "number", "the lowest of these ratios"),
    Column("time_vs_ce_high", "number", "the highest of these ratios"),
    Column("time_vs_ce_n", "integer", "seeds in time_vs_ce", high=True),
    Column(
        "time_vs_ce_note",
        "text",
        "why there is none: no shared seed; compiled, because training times include compilation; or unsteady, "
        "because training times of a row differ by more than 1.5x",
    ),
    Column("trials", "integer", "trials of the study that the row won; empty for other rows"),
    Column("tune_settings", "text", "whether the trials covered all settings, or repeated some"),
    Column("tune_epochs", "integer", "epochs of each trial"),
    Column("tuning_seconds", "number", "total seconds of training and evaluation of all trials, each cell once"),
    Column("pruner", "text", "pruner of the trials: none, median or hyperband"),
    Column("tune_space", "text", "what was searched: JSON of full name -> low:high[:log]"),
    Column(
        "study", "text", "id of the study; several ids, the smallest budget first, if several studies have this winner"
    ),
)

COLUMNS = frame_columns((TOP1,), (*IMAGES, *COST))
"""Those of a board of images."""


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a board's frame as plain values; None where there is none."""
    # Several times as fast as to_dict("records"), which looks at the type of every value.
    names = [str(name) for name in frame.columns]
    columns = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in names)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def sort_column(text: str, columns: Sequence[Column]) -> tuple[Column, bool]:
    """The column that ``--sort`` names and whether its values descend; a leading ``-`` turns the order round.

    Raises:
        UsageError: there is no such column.
    """
    name = text.removeprefix("-")
    column = next((column for column in columns if column.name == name), None)
    if column is None:
        raise UsageError(unknown("column to sort by", name, [column.name for column in columns]))
    return column, column.high != text.startswith("-")
