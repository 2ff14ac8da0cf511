"""A board as Markdown and as LaTeX, every printed column, with rows in bold whose interval excludes 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tabulate import DataRow, Line, TableFormat, tabulate

from kdzoo.board.display import SHOWN, Table, heading, notes, problem_text, title
from kdzoo.board.escape import latex, markdown
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
    blocks = []
    for table in printed:
        lines = [f"### {markdown(title(table.group))}", ""]
        lines += [f"- {word}: {markdown(text)}" for word, text in heading(table)]
        lines += ["", _grid(table, "pipe", markdown, "**{}**"), ""]
        lines += [
            f"- {problem.kind}: {markdown(problem_text(problem, with_pair=len(table.same) < 2))}"
            for problem in table.problems
        ]
        blocks.append("\n".join(lines).rstrip("\n"))
    method = "\n".join(f"- {markdown(note)}" for note in notes(board, printed, "bold"))
    return "\n\n".join([*blocks, "#### How to read it", method]) + "\n"


def to_latex(board: Board, printed: Sequence[Table], width: int) -> str:
    """Floats with booktabs' rules, and a list of notes."""
    blocks = ["% needs \\usepackage{booktabs}"]
    for table in printed:
        caption = "; ".join(f"{word}: {text}" for word, text in heading(table))
        lines = [
            "\\begin{table}",
            "\\centering\\footnotesize",
            f"\\caption{{{_latex_text(title(table.group))}. {_latex_text(caption)}.}}",
            _grid(table, _BOOKTABS, _latex_text, r"\textbf{{{}}}"),
        ]
        lines += [
            f"\\par {problem.kind}: {_latex_text(problem_text(problem, with_pair=len(table.same) < 2))}"
            for problem in table.problems
        ]
        blocks.append("\n".join([*lines, "\\end{table}"]))
    if not printed:
        return "\n".join([*blocks, "% no cells yet"]) + "\n"
    items = "\n".join(f"\\item {_latex_text(note)}" for note in notes(board, printed, "bold"))
    return "\n\n".join([*blocks, f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"]) + "\n"


def _grid(table: Table, form: str | TableFormat, escape: Callable[[str], str], strong: str) -> str:
    cells = [
        [strong.format(text) if row["bold"] else text for text in (escape(column.text(row)) for column in SHOWN)]
        for row in table.rows
    ]
    return tabulate(
        cells,
        headers=[escape(column.header) for column in SHOWN],
        tablefmt=form,
        colalign=[column.align for column in SHOWN],
        disable_numparse=True,
    )


def _latex_text(text: str) -> str:
    """Escaped, with arrows and minus signs as they are set in print."""
    return _NEGATIVE.sub("$-$", latex(text)).replace(r"-\textgreater{}", r"$\rightarrow$")
