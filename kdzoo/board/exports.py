"""A board for other programs: Markdown and LaTeX with every printed column, CSV and JSON with the whole frame.

Names come from other people's records: each format has what makes them safe and visible.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from tabulate import DataRow, Line, TableFormat, tabulate

from kdzoo.board.display import MORE, Table, heading, more_notes, notes, problem_text
from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import OverallText, overall_notes, overall_text
from kdzoo.board.printed import PrintedColumn, RowValues
from kdzoo.board.standings import Standing
from kdzoo.board.table import Board
from kdzoo.cell import canonical_json
from kdzoo.foreign import visible

BOARD_SCHEMA = 1
"""Version of the JSON form."""

_NEGATIVE = re.compile(r"(?<![\w.-])-(?=\d)")


def _begin(widths: list[int], aligns: list[str]) -> str:
    return f"\\begin{{tabular}}{{{''.join(align[0] for align in aligns)}}}\n\\toprule"


_BOOKTABS = TableFormat(
    lineabove=_begin,
    linebelowheader=Line("\\midrule", "", "", ""),
    linebetweenrows=None,
    linebelow=Line("\\bottomrule\n\\end{tabular}", "", "", ""),
    headerrow=DataRow("", "&", r"\\"),
    datarow=DataRow("", "&", r"\\"),
    padding=1,
    with_header_hide=None,
)


def to_markdown(board: Board, printed: Sequence[Table], width: int) -> str:
    """GitHub tables."""
    if not printed:
        return "No cells yet.\n"
    blocks = [_markdown_table(table) for table in printed] + [
        _markdown_overall(overall_text(one)) for one in board.overalls
    ]
    method = "\n".join(f"- {markdown(note)}" for note in _all_notes(board, printed))
    return "\n\n".join([*blocks, "#### How to read it", method]) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"### {markdown(table.group.full_title)}", ""]
    lines += [f"- {word}: {markdown(text)}" for word, text in heading(table)]
    lines += ["", _grid(table.columns, table.rows, "pipe", markdown, "**{}**"), ""]
    lines += [f"{MORE}:", "", _grid(table.more, table.rows, "pipe", markdown, "**{}**"), ""]
    lines += [
        f"- {problem.kind}: {markdown(problem_text(problem, with_pair=len(table.same) < 2))}"
        for problem in table.problems
    ]
    return "\n".join(lines).rstrip("\n")


def _markdown_overall(words: OverallText) -> str:
    lines = [f"### {markdown(words.title)}", ""]
    lines += [f"{number}. {markdown(pair)}" for number, pair in enumerate(words.pairs, start=1)]
    lines += ["", _grid(words.columns, words.rows, "pipe", markdown, "**{}**"), ""]
    lines += [f"- left out: {markdown(reasons)}" for reasons in words.lacking]
    lines += [f"- {markdown(finding)}" for finding in words.findings]
    return "\n".join(lines)


def to_latex(board: Board, printed: Sequence[Table], width: int) -> str:
    """Floats with booktabs' rules, and a list of notes."""
    blocks = ["% needs \\usepackage{booktabs}"]
    if not printed:
        return "\n".join([*blocks, "% no cells yet"]) + "\n"
    blocks += [_latex_table(table) for table in printed] + [_latex_overall(overall_text(one)) for one in board.overalls]
    items = "\n".join(f"\\item {_latex_text(note)}" for note in _all_notes(board, printed))
    return "\n\n".join([*blocks, f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"]) + "\n"


def _latex_table(table: Table) -> str:
    about = "; ".join(f"{word}: {text}" for word, text in heading(table))
    problems = [f"{problem.kind}: {problem_text(problem, with_pair=len(table.same) < 2)}" for problem in table.problems]
    first = _latex_float(f"{table.group.full_title}. {about}.", table.columns, table.rows, problems)
    return first + "\n\n" + _latex_float(f"{table.group.full_title}. {MORE}.", table.more, table.rows, [])


def _latex_overall(words: OverallText) -> str:
    pairs = "; ".join(f"{number}: {pair}" for number, pair in enumerate(words.pairs, start=1))
    lacking = [f"left out: {reasons}" for reasons in words.lacking]
    return _latex_float(f"{words.title}. {pairs}.", words.columns, words.rows, lacking + words.findings)


def _latex_float(
    caption: str, columns: Sequence[PrintedColumn], rows: Sequence[RowValues], below: Sequence[str]
) -> str:
    lines = [
        "\\begin{table}",
        "\\centering\\footnotesize",
        f"\\caption{{{_latex_text(caption)}}}",
        _grid(columns, rows, _BOOKTABS, _latex_text, r"\textbf{{{}}}"),
    ]
    return "\n".join([*lines, *(f"\\par {_latex_text(text)}" for text in below), "\\end{table}"])


def _all_notes(board: Board, printed: Sequence[Table]) -> list[str]:
    return [*notes(board, printed, "bold"), *more_notes(board), *overall_notes(board.overalls, "bold"), *board.remarks]


def _grid(
    columns: Sequence[PrintedColumn],
    rows: Sequence[RowValues],
    form: str | TableFormat,
    escape: Callable[[str], str],
    strong: str,
) -> str:
    cells = [
        [strong.format(text) if row["bold"] else text for text in (escape(column.text(row)) for column in columns)]
        for row in rows
    ]
    return tabulate(
        cells,
        headers=[escape(column.header) for column in columns],
        tablefmt=form,
        colalign=[column.align for column in columns],
        disable_numparse=True,
    )


def _latex_text(text: str) -> str:
    """Escaped, with arrows and minus signs as they are set in print."""
    return _NEGATIVE.sub("$-$", latex(text)).replace(r"-\textgreater{}", r"$\rightarrow$")


def to_csv(board: Board, printed: Sequence[Table], width: int) -> str:
    """One line a row; an empty cell where there is no value. No text is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in board.columns])
    for table in printed:
        for row in table.rows:
            writer.writerow(
                [_csv_text(row[column.name]) if column.kind == "text" else row[column.name] for column in board.columns]
            )
    return text.getvalue()


def to_json(board: Board, printed: Sequence[Table], width: int) -> str:
    """What the columns mean, the groups with their rows and problems, and what is true over their pairs.

    null where there is no value. Texts are as they are in the records.
    Each row has a line of its own, so that a published board's changes can be read.
    """
    groups = ",\n".join(_json_group(table) for table in printed)
    method = json.dumps(_all_notes(board, printed), indent=1)
    columns = json.dumps({column.name: column.help for column in board.columns}, indent=1)
    summaries = ",\n".join(_json_overall(one) for one in board.overalls)
    return (
        f'{{"board_schema": {BOARD_SCHEMA},\n"notes": {method},\n"columns": {columns},\n"groups": [\n{groups}\n],\n'
        f'"overall": [\n{summaries}\n]}}\n'
    )


def _json_group(table: Table) -> str:
    head = json.dumps({**asdict(table.group), "problems": [asdict(problem) for problem in table.problems]})
    rows = [json.dumps({**row, "records": row["records"].split()}, allow_nan=False) for row in table.rows]
    return f'{head[:-1]}, "rows": [\n' + ",\n".join(rows) + "\n]}"


def _json_overall(one: Overall) -> str:
    words = overall_text(one)
    head = json.dumps(
        {
            "title": words.title,
            "protocol": one.protocol,
            "evaluation": one.evaluation,
            "rows": one.kind,
            "pairs": [asdict(block) for block in one.blocks],
            "friedman": asdict(one.friedman),
            "critical_difference": one.critical_difference,
            "alike": one.alike,
            "findings": words.findings,
        },
        allow_nan=False,
    )
    standings = [json.dumps(_standing(standing, one), allow_nan=False) for standing in one.standings]
    return f'{head[:-1]}, "standings": [\n' + ",\n".join(standings) + "\n]}"


def _standing(standing: Standing, one: Overall) -> dict[str, Any]:
    """A standing, its mean score by the name of the measure."""
    return {one.main.name if name == "score" else name: value for name, value in asdict(standing).items()}


def _csv_text(value: Any) -> str | None:
    if isinstance(value, str):
        return csv_cell(value)
    return None if value is None else canonical_json(value)


# Only what would act: an underscore inside a word, a lone bracket or a "less than" before a number stay readable.
_MARKDOWN = re.compile(r"[\\|*`~$]|](?=[(\[])|(?<![^\W_])_|_(?![^\W_])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def markdown(text: str) -> str:
    """Text for a cell of a GitHub table: no markup, no HTML, no cell of its own."""
    marked = _MARKDOWN.sub(r"\\\g<0>", visible(text))
    return _HTML.sub(lambda found: "&lt;" if found.group() == "<" else "&amp;", marked)


def latex(text: str) -> str:
    """Text for LaTeX's text mode."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


@lru_cache(4096)  # most texts stand in many rows
def csv_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: one that would start one gets a leading apostrophe."""
    plain = visible(text)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain
