from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from kdzoo.board.columns import COLUMNS
from kdzoo.board.display import MORE
from kdzoo.board.render import FORMATS, board_text
from kdzoo.board.table import make_board
from kdzoo.cell import Cell
from kdzoo.errors import UsageError
from kdzoo.record import Record

Factory = Callable[..., Any]

TERMINAL = """\
digits 8x8: resnet20 -> resnet8
  teacher  resnet20, 0.27M parameters, test top-1 98.00 %, trained here
  student  resnet8, 0.09M parameters, 3.0x smaller, random init
  recipe   quick (8 epochs, sgd, lr 0.05, batch 64, fp32)
  data     1078 fit, 359 tune, 1000 test samples, 10 classes
  seeds    3 (0-2), protocol 1, evaluation 1

#  strategy                      top-1 %    sd  vs ce  95% interval      seeds           gap  retention   time
-  ----------------------------  -------  ----  -----  ----------------  --------------  ---  ---------  -----
1  soft alpha=0.9 temperature=4    93.00  0.60  +3.00  [+2.01, +3.99] *  3/3             38%      94.9%  1.00x
2  fitnets beta=100 stage=1        90.70  0.28  +0.20  n<3               2/3 (1 failed)   3%      92.6%  2.00x
3  ce                              90.00  1.00      -  baseline          3/3              0%      91.8%  1.00x

failed   fitnets beta=100 stage=1, seed 2: the loss became NaN in epoch 3


top-1: mean over finished seeds, test set, last epoch; sd: standard deviation over these seeds
vs ce: mean difference to ce on shared seeds, in points; 95% paired t interval, * where it excludes 0
gap: recovered share of the teacher's lead over ce; time: training time relative to ce, median over shared seeds
Full notes: `kdzoo board --explain`. More columns: `kdzoo board --format md` (or latex, csv, json)
"""

HOSTILE = [
    "a|b",
    "back\\slash",
    "new\nline",
    "carriage\rreturn",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>",
    "[click](http://example.org)",
    "`code` **bold** __init__",
    "=1+1",
    "@SUM(A1)",
    "-2+3",
    "\t=1",
    "50% & $x_1$ #{y} ~^",
    "right\u202eleft\u200b",
    'quote"comma,',
    "long " * 400,
]


def test_terminal_board_to_the_letter(sweep: list[Record]) -> None:
    assert board_text(sweep) == TERMINAL


def test_markdown_rows_to_the_letter(sweep: list[Record]) -> None:
    table = [line for line in board_text(sweep, format="md").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    soft = ["1", "soft alpha=0.9 temperature=4", "93.00", "0.60", "+3.00", "[+2.01, +3.99]", "3/3"]
    # What all rows share, teacher and student, is in the heading.
    assert cells[0] == [
        *("#", "strategy", "top-1 %", "sd", "vs ce", "95% interval", "seeds", "gap", "retention", "time")
    ]
    assert cells[2] == [f"**{text}**" for text in [*soft, "38%", "94.9%", "1.00x"]]
    assert cells[3] == [
        *("2", "fitnets beta=100 stage=1", "90.70", "0.28", "+0.20", "n<3", "2/3 (1 failed)"),
        *("3%", "92.6%", "2.00x"),
    ]
    assert cells[4] == ["3", "ce", "90.00", "1.00", "-", "baseline", "3/3", "0%", "91.8%", "1.00x"]


def test_teacher_and_student_are_columns_where_they_differ(rows: Factory) -> None:
    records = rows({"ce": [900], "soft": [930]}) + rows({"ce": [910], "soft": [920]}, student="resnet14")
    head = next(line for line in board_text(records, format="md", by="dataset").splitlines() if line.startswith("|"))
    names = [cell.strip() for cell in head.strip("|").split("|")]
    assert names[:8] == ["#", "strategy", "top-1 %", "sd", "vs ce", "95% interval", "student", "seeds"]


def test_a_row_is_marked_only_where_its_interval_excludes_zero(rows: Factory) -> None:
    records = rows({"ce": [900, 910, 890], "soft": [930, 936, 924], "at": [905, 940, 880], "rkd": [880, 889, 871]})
    frame = make_board(records).frame
    excluding = set(frame["strategy"][(frame["diff_ce_low"] > 0) | (frame["diff_ce_high"] < 0)])
    assert excluding == {"soft", "rkd"} == set(frame["strategy"][frame["bold"]])
    markdown = board_text(records, format="md")
    assert set(re.findall(r"^\| *\*\*\d\*\* \| \*\*(\w+)", markdown, re.MULTILINE)) == excluding
    assert set(re.findall(r"\\textbf\{\d\} *& \\textbf\{(\w+)", board_text(records, format="latex"))) == excluding
    assert set(re.findall(r"^\d  (\w+).*\] \*", board_text(records), re.MULTILINE)) == excluding


def test_csv_reads_back_as_the_frame(sweep: list[Record]) -> None:
    frame = make_board(sweep).frame
    read = pd.read_csv(io.StringIO(board_text(sweep, format="csv")), keep_default_na=False)
    assert list(read.columns) == [column.name for column in COLUMNS]
    for column in COLUMNS:
        written = ["" if pd.isna(value) else value for value in frame[column.name]]
        if column.kind in ("number", "integer"):
            assert [value and float(value) for value in read[column.name]] == written
        else:
            assert [str(value) for value in read[column.name]] == [str(value) for value in written]


def test_json_reads_back_with_full_precision(sweep: list[Record]) -> None:
    frame = make_board(sweep).frame
    whole = json.loads(board_text(sweep, format="json"))
    group = whole["groups"][0]
    assert (whole["board_schema"], group["title"], group["seeds"]) == (1, "digits 8x8: resnet20 -> resnet8", [0, 1, 2])
    assert [row["strategy"] for row in group["rows"]] == ["soft", "fitnets", "ce"]
    assert group["rows"][0]["params"] == {"alpha": 0.9, "temperature": 4.0}
    assert [row["top1_sd"] for row in group["rows"]] == list(frame["top1_sd"])
    assert [row["diff_ce"] for row in group["rows"]] == [*frame["diff_ce"][:2], None]
    assert [row["done"] for row in group["rows"]] == [3, 2, 3]
    assert [row["bold"] for row in group["rows"]] == [True, False, False]
    assert group["rows"][0]["records"] == [one.id for one in sweep if one.cell.strategy.name == "soft"]
    assert [(one["kind"], one["seeds"]) for one in group["problems"]] == [("failed", [2])]


def test_latex_is_balanced_and_escaped(cell: Factory, record: Factory) -> None:
    text = board_text([record(cell("ce")), record(cell("a_b & 50% #1 {x} \\end"))], format="latex")
    assert r"a\_b \& 50\% \#1 \{x\} \textbackslash{}end" in text
    begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(begun) == sorted(ended) == ["itemize", "table", "table", "tabular", "tabular"]
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in rows] == [9, 9, 9, 7, 7, 7]


def second_table(text: str) -> dict[str, dict[str, str]]:
    """Strategy -> header -> cell of the second table of a Markdown board, without what makes it bold."""
    lines = text[text.index(f"{MORE}:") :].splitlines()
    table = [line for line in lines[: lines.index("", 2)] if line.startswith("|")]
    cells = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in table]
    return {row[0].split()[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def test_the_second_table_has_what_the_first_has_no_room_for(cell: Factory, record: Factory) -> None:
    rights = {"ce": [900, 910, 890, 904, 889], "soft": [930, 936, 924, 920, 931], "at": [905, 915, 896, 911, 893]}
    took = {"ce": [10.0, 10.0, 11.0, 10.0, 10.0], "soft": [15.0, 16.0, 14.0, 15.0, 15.0], "at": [9.0, 30.0] * 2 + [9.0]}
    records = [
        record(cell(name, seed), right, seconds=took[name][seed])
        for name, one in rights.items()
        for seed, right in enumerate(one)
    ]
    found = second_table(board_text(records, format="md"))
    frame = make_board(records).frame.set_index("strategy")
    soft = frame.loc["soft"]
    assert found["soft"] == {
        "strategy": "soft alpha=0.9 temperature=4",
        "n": "5",
        "top-1 interval": f"[{soft['top1_low']:.2f}, {soft['top1_high']:.2f}]",
        "p vs ce": f"{soft['diff_ce_p_holm']:.3f}",
        "vs soft": "-",
        "vs soft interval": "baseline",
        "p vs soft": "-",
        "gap interval": f"[{100 * soft['gap_recovered_low']:.0f}%, {100 * soft['gap_recovered_high']:.0f}%] (n=5)",
        "agreement": "95.00%",
        "ECE %": "2.00",
        "time, range": "1.50x [1.27, 1.60] (n=5)",
    }
    at = frame.loc["at"]
    assert found["at"]["vs soft interval"] == f"[{at['diff_soft_low']:+.2f}, {at['diff_soft_high']:+.2f}] (n=5)"
    assert found["at"]["p vs soft"] == f"{at['diff_soft_p_holm']:.3f}"
    assert (found["at"]["time, range"], found["ce"]["gap interval"]) == ("unsteady", "baseline")
    latex = board_text(records, format="latex")
    for text in found["soft"].values():
        assert text.replace("%", r"\%").replace("-", "") in latex.replace("$-$", "")
    assert "bootstrap-t interval from 5 seeds on" in latex


def test_the_second_table_leaves_out_what_no_row_has(rows: Factory) -> None:
    found = second_table(board_text(rows({"ce": [900, 910], "at": [905, 911]}), format="md"))
    assert found["at"]["gap interval"] == "n<5"
    assert not {"p vs ce", "vs soft", "p vs soft"} & found["at"].keys()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("by", ["pair", "dataset"])
def test_the_same_records_give_the_same_bytes(format: str, by: str, sweep: list[Record], cell: Factory) -> None:
    planned = [cell("at", seed) for seed in range(3)]
    expected = board_text(sweep, planned, format=format, by=by)
    draw = random.Random(1)
    for _ in range(3):
        draw.shuffle(sweep)
        draw.shuffle(planned)
        assert board_text(sweep, planned, format=format, by=by) == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_act_nowhere(name: str, cell: Factory, record: Factory, failure: Factory) -> None:
    base = cell("ce")
    places: dict[str, dict[str, Any]] = {
        "strategy": {"strategy": name},
        "dataset": {"data": base.data.model_copy(update={"name": name})},
        "student": {"student": name},
        "teacher": {"teacher": name},
        "params": {"params": {name: name}},
        "distribution": {"distribution": name},
        "recipe": {"recipe": base.recipe.model_copy(update={"name": name})},
    }
    records = [record(base), failure(cell("at", 1), name)]
    records += [record(cell(**({"strategy": "at"} | changes))) for changes in places.values()]
    texts = {format: board_text(records, format=format) for format in FORMATS}

    for text in texts.values():
        assert all(character == "\n" or character.isprintable() for character in text)

    assert max(len(line) for line in texts["table"].splitlines()) <= 120

    for block in texts["md"].split("\n\n"):
        bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines() if line.startswith("|")]
        assert len(set(bars)) <= 1, block
    assert "<script" not in texts["md"]
    assert not re.search(r"(?<!\\)\]\(", texts["md"])

    read = pd.read_csv(io.StringIO(texts["csv"]), dtype=str, keep_default_na=False)
    words = [column.name for column in COLUMNS if column.kind == "text"]
    assert not read[words].map(lambda text: text.lstrip().startswith(("=", "+", "-", "@"))).to_numpy().any()

    groups = json.loads(texts["json"])["groups"]
    rows = [row for group in groups for row in group["rows"]]
    assert len(read) == len(rows) == 9
    for place in places:
        assert any(name in row[place] for row in rows)
    assert [problem["reason"] for group in groups for problem in group["problems"]] == [name]


def test_a_wide_board_is_folded_to_the_terminal(rows: Factory) -> None:
    params = {"alpha": 0.5, "beta": 12.5, "gamma": 1e-4, "hint_epochs": 3, "stage": -1, "temperature": 2.0}
    records = rows({"ce": [900, 910, 890]}) + rows({"mixed": [940, 930, 950]}, params=params, distribution="kd-extra")
    records += rows({"ce": [950, 951, 953], "soft": [961, 955, 958]}, teacher="vit", student="resnet14")
    for by in ("pair", "dataset", "student", "teacher", "strategy"):
        text = board_text(records, by=by)
        assert max(len(line) for line in text.splitlines()) <= 120
        assert all(f"{name}=" in text for name in params)


def test_the_foot_of_a_terminal_is_four_short_lines_whatever_the_rows(rows: Factory) -> None:
    records = rows({"ce": [900, 910, 890], "soft": [930, 940, 920], "at": [930, 936]})
    foot = board_text(records).rpartition("\n\n\n")[2].splitlines()
    assert len(foot) == 4
    assert max(map(len, foot)) <= 120
    full = board_text(records, explain=True).rpartition("\n\n\n")[2]
    assert not set(foot) & set(full.splitlines())
    for word in ("n<3: ", "no spread: ", "retention: ", "bootstrap-t"):
        assert word in full
        assert word not in "\n".join(foot)


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - {"table"}))
def test_other_formats_have_the_full_notes_anyway(format: str, sweep: list[Record]) -> None:
    assert board_text(sweep, format=format, explain=True) == board_text(sweep, format=format)


def test_notes_speak_only_of_what_is_there(rows: Factory) -> None:
    full = board_text(rows({"ce": [900, 910, 890], "soft": [930, 936, 924]}), explain=True)
    assert "n<3" not in full
    assert "no spread" not in full
    same = rows({"ce": [900, 910, 890], "soft": [930, 940, 920]})
    assert "no spread: " in board_text(same, explain=True)


def test_a_difference_on_fewer_seeds_than_the_row_says_so(cell: Factory, record: Factory) -> None:
    records = [record(cell("ce", seed), 900 + seed) for seed in range(3)]
    records += [record(cell("soft", seed), 920 + seed**2) for seed in range(4)]
    text = board_text(records, explain=True)
    assert re.search(r"^1  soft .*\] \(n=3\) .* 4/4 ", text, re.MULTILINE)
    assert "(n=...): number of seeds shared with ce" in text


def test_an_older_evaluation_is_marked(cell: Factory, record: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdzoo.board.table.EVALUATION", 2)
    text = board_text([record(cell("ce"), evaluation=1), record(cell("ce"), evaluation=2)])
    assert text.count("not comparable with current numbers") == 1
    assert ", evaluation=1" in text
    assert ", evaluation=2" in text


@pytest.mark.parametrize(
    ("sort", "strategies"),
    [
        ("rank", ["soft", "fitnets", "ce"]),
        ("strategy", ["ce", "fitnets", "soft"]),
        ("-strategy", ["soft", "fitnets", "ce"]),
        ("diff_ce", ["soft", "fitnets", "ce"]),
        ("-diff_ce", ["fitnets", "soft", "ce"]),
        ("top1_sd", ["fitnets", "soft", "ce"]),
        ("time_vs_ce", ["soft", "ce", "fitnets"]),
    ],
)
def test_sorting_puts_the_best_first_and_the_missing_last(
    sort: str, strategies: list[str], sweep: list[Record]
) -> None:
    whole = json.loads(board_text(sweep, format="json", sort=sort))
    assert [row["strategy"] for row in whole["groups"][0]["rows"]] == strategies


@pytest.mark.parametrize("name", [column.name for column in COLUMNS])
def test_every_column_can_sort(name: str, sweep: list[Record]) -> None:
    assert len(board_text(sweep, format="csv", sort=name).splitlines()) == 4


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"sort": "top_1"}, r"unknown column to sort by 'top_1'; did you mean top1"),
        ({"by": "pairs"}, r"unknown grouping 'pairs'; did you mean pair"),
        ({"format": "htm"}, r"unknown board format 'htm'"),
    ],
)
def test_a_wrong_choice_is_named(choice: dict[str, Any], message: str, sweep: list[Record]) -> None:
    with pytest.raises(UsageError, match=message):
        board_text(sweep, **choice)


@pytest.mark.parametrize("format", FORMATS)
def test_a_board_without_rows_says_so(format: str) -> None:
    text = board_text([], format=format)
    if format == "csv":
        assert text == ",".join(column.name for column in COLUMNS) + "\n"
    elif format == "json":
        assert json.loads(text)["groups"] == []
    else:
        assert "no cells yet" in text.lower()


@pytest.mark.parametrize("format", FORMATS)
def test_a_board_of_planned_and_failed_cells_alone(format: str, cell: Factory, failure: Factory) -> None:
    planned: list[Cell] = [cell(strategy, seed) for strategy in ("ce", "soft") for seed in range(2)]
    text = board_text([failure(planned[0])], planned, format=format)
    assert "the loss became NaN in epoch 3" in text or format == "csv"
    if format == "csv":
        read = pd.read_csv(io.StringIO(text))
        assert list(read["failed"]) == [1, 0]
        assert list(read["missing"]) == [1, 2]
