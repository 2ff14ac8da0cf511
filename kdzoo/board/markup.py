"""A board as Markdown and as LaTeX, every printed column, with rows in bold whose interval excludes 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tabulate import DataRow, Line, TableFormat, tabulate

from kdzoo.board.display import Shown, Table, Values, heading, notes, problem_text, shown, title
from kdzoo.board.escape import latex, markdown
from kdzoo.board.more import NOTES, TITLE, more
from kdzoo.board.overall import Overall, overall
from kdzoo.board.overall_text import Section, overall_notes, section
from kdzoo.board.table import Board

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
    overalls = overall(board)
    blocks = [_markdown_table(table) for table in printed] + [_markdown_section(section(one)) for one in overalls]
    method = "\n".join(f"- {markdown(note)}" for note in _all_notes(board, printed, overalls))
    return "\n\n".join([*blocks, "#### How to read it", method]) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"### {markdown(title(table.group))}", ""]
    lines += [f"- {word}: {markdown(text)}" for word, text in heading(table)]
    lines += ["", _grid(shown(table), table.rows, "pipe", markdown, "**{}**"), ""]
    lines += [f"{TITLE}:", "", _grid(more(table), table.rows, "pipe", markdown, "**{}**"), ""]
    lines += [
        f"- {problem.kind}: {markdown(problem_text(problem, with_pair=len(table.same) < 2))}"
        for problem in table.problems
    ]
    return "\n".join(lines).rstrip("\n")


def _markdown_section(words: Section) -> str:
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
    overalls = overall(board)
    blocks += [_latex_table(table) for table in printed] + [_latex_section(section(one)) for one in overalls]
    items = "\n".join(f"\\item {_latex_text(note)}" for note in _all_notes(board, printed, overalls))
    return "\n\n".join([*blocks, f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"]) + "\n"


def _latex_table(table: Table) -> str:
    about = "; ".join(f"{word}: {text}" for word, text in heading(table))
    problems = [f"{problem.kind}: {problem_text(problem, with_pair=len(table.same) < 2)}" for problem in table.problems]
    first = _latex_float(f"{title(table.group)}. {about}.", shown(table), table.rows, problems)
    return first + "\n\n" + _latex_float(f"{title(table.group)}. {TITLE}.", more(table), table.rows, [])


def _latex_section(words: Section) -> str:
    pairs = "; ".join(f"{number}: {pair}" for number, pair in enumerate(words.pairs, start=1))
    lacking = [f"left out: {reasons}" for reasons in words.lacking]
    return _latex_float(f"{words.title}. {pairs}.", words.columns, words.rows, lacking + words.findings)


def _latex_float(caption: str, columns: Sequence[Shown], rows: Sequence[Values], below: Sequence[str]) -> str:
    lines = [
        "\\begin{table}",
        "\\centering\\footnotesize",
        f"\\caption{{{_latex_text(caption)}}}",
        _grid(columns, rows, _BOOKTABS, _latex_text, r"\textbf{{{}}}"),
    ]
    return "\n".join([*lines, *(f"\\par {_latex_text(text)}" for text in below), "\\end{table}"])


def _all_notes(board: Board, printed: Sequence[Table], overalls: Sequence[Overall]) -> list[str]:
    return [*notes(board, printed, "bold"), *NOTES, *overall_notes(overalls, "bold")]


def _grid(
    columns: Sequence[Shown],
    rows: Sequence[Values],
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
