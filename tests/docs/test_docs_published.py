"""The README's part on published boards: the first rows of each pair, or how to make boards where there are none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT, read, tool

SWEEP = ROOT / "tests" / "board" / "sweep" / "expected" / "board.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder with the mini-sweep's board."""
    board = tmp_path / "leaderboards" / "digits" / "board.json"
    board.parent.mkdir(parents=True)
    board.write_bytes(SWEEP.read_bytes())
    return tmp_path / "leaderboards"


def _made(folder: Path) -> str:
    return str(tool("published").published_boards(folder, folder.parent))


def _cells(text: str) -> list[list[str]]:
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if re.match(r"\| \**\d", line)]
    return [[cell.strip().strip("*") for cell in row] for row in rows]


def _change(folder: Path, **values: Any) -> None:
    path = folder / "digits" / "board.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_first_rows_and_the_baseline_of_each_pair_are_shown(folder: Path) -> None:
    first, second, third, baseline = _cells(_made(folder))[:4]
    # Of 400 images, soft tuned had 388, 390 and 387 right, and ce 376, 380 and 377.
    assert first == [
        "1", "soft alpha=0.5 temperature=8.25", "tuned", "97.08 ± 0.38", "+2.67", "[+1.95, +3.38]", "3/3",
    ]  # fmt: skip
    assert second[:3] == ["2", "soft alpha=0.9 temperature=4", "default"]
    assert third[0] == "3"
    assert third[-2:] == ["n<3", "2/3 (1 failed)"]
    assert baseline[:3] == ["5", "ce", "-"]  # the fourth row is left out
    assert baseline[3:6] == ["94.42 ± 0.52", "-", "baseline"]
    assert [row[1].split()[0] for row in _cells(_made(folder))].count("ce") == 5


def test_a_row_is_bold_where_its_interval_excludes_0(folder: Path) -> None:
    lines = _made(folder).splitlines()
    assert any(line.startswith("| **1**") and "**+2.67**" in line for line in lines)
    assert any(re.match(r"\| 1 .*\+0\.04 +\| \[-0\.37, \+0\.44\]", line) for line in lines)


def test_board_is_linked_and_its_plot_shown_where_there_is_one(folder: Path) -> None:
    assert "](leaderboards/digits/board.md)" in _made(folder)
    assert "![" not in _made(folder)
    plot = folder / "digits" / "plots" / "accuracy-parameters.svg"
    plot.parent.mkdir()
    plot.touch()
    assert "](leaderboards/digits/plots/accuracy-parameters.svg)" in _made(folder)


def test_names_cannot_act(folder: Path) -> None:
    board = json.loads(SWEEP.read_text(encoding="utf-8"))
    board["groups"][0]["rows"][0]["strategy"] = "<img src=x>|[a](http://b)"
    _change(folder, groups=board["groups"][:1])
    (first, *_) = [line for line in _made(folder).splitlines() if "&lt;img" in line]
    assert "<img" not in first
    assert not re.search(r"(?<!\\)\]\(http", first)
    assert len(re.findall(r"(?<!\\)\|", first)) == 8  # seven cells: teacher and student are above the table


def test_each_pair_has_a_table_and_a_recipe_of_its_own(folder: Path) -> None:
    board = json.loads(SWEEP.read_text(encoding="utf-8"))
    text = _made(folder)
    groups = [group for group in board["groups"] if not group["outdated"]]
    assert len(groups) > 1
    assert text.count("| # ") == text.count("- recipe: ") == text.count("- student: ") == len(groups)
    for part in text.split("- recipe: ")[1:]:
        ranks = [int(row[0]) for row in _cells(part.split("**", 1)[0] if not _cells(part) else part.split("\n\n**")[0])]
        assert ranks == sorted(ranks)
        assert ranks[0] == 1


def test_an_outdated_table_and_a_row_without_a_result_are_left_out(folder: Path) -> None:
    board = json.loads(SWEEP.read_text(encoding="utf-8"))
    board["groups"][0]["outdated"] = True
    board["groups"][1]["rows"][0]["top1"] = None
    _change(folder, groups=board["groups"][:2])
    rows = _cells(_made(folder))
    assert [row[1].split()[0] for row in rows] == ["soft", "at", "ce"]


def test_a_board_of_another_form_is_refused(folder: Path) -> None:
    _change(folder, board_schema=99)
    with pytest.raises(RuntimeError, match=r"leaderboards/digits/board.json .*kdzoo publish --refresh"):
        _made(folder)


def test_without_boards_it_says_how_to_make_them(tmp_path: Path) -> None:
    assert "`kdzoo publish RUNS --to leaderboards`" in _made(tmp_path / "leaderboards")


def test_check_tells_what_is_out_of_date_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = tool("generate")
    page = folder.parent / "README.md"
    text = "<!-- generated: published boards -->\nold\n<!-- end of generated -->\n"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(generate, "ROOT", folder.parent)
    monkeypatch.setattr(generate, "PAGES", (page,))
    monkeypatch.setattr(generate, "CHEAP", {"published boards": lambda: _made(folder)})
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 1
    assert "README.md is out of date" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == text
    monkeypatch.setattr("sys.argv", ["generate.py"])
    assert generate.main() == 0
    assert "97.08 ± 0.38" in page.read_text(encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 0


def test_readme_has_the_boards_that_are_published_here() -> None:
    block = re.search(r"<!-- generated: published boards -->\n(.*?)<!-- end", read("README.md"), re.DOTALL)
    assert block is not None
    assert block[1] == tool("published").published_boards(), "run `python docs/generate.py`"


def test_weights_of_papers_balanced_and_tuned_stand_side_by_side(folder: Path) -> None:
    board = json.loads(SWEEP.read_text(encoding="utf-8"))
    (group,) = [group for group in board["groups"] if group["number"] == 0]
    tuned = next(row for row in group["rows"] if (row["strategy"], row["variant"]) == ("soft", "tuned"))
    usual = next(row for row in group["rows"] if row["strategy"] == "soft" and row["params"]["alpha"] == 0.9)
    for ratio, difference in ((1.0, 2.0), (0.25, -1.5)):
        params = usual["params"] | {"balance": ratio}
        changed = {"strategy": "soft@balanced", "params": params, "variant": "", "diff_ce": difference, "bold": True}
        group["rows"].append(usual | changed)
    _change(folder, groups=[group])
    text = tool("strategy_results").three_weights(folder)
    assert text.startswith(f"**digits, {usual['student']}**\n\n| strategy   | paper")
    assert _row(text, "strategy")[1:] == ["paper", "balanced, 0.25", "balanced, 1", "tuned"]
    assert _row(text, "`soft`")[2:] == ["**-1.50**", "**+2.00**", "**+2.67**"]
    assert _row(text, "balanced, 1") == ["balanced, 1", "1", "+2.00", "+2.00", "1 / 0", "0.67"]
    assert _row(text, "balanced, 0.25") == ["balanced, 0.25", "1", "-1.50", "-1.50", "0 / 1", "4.17"]
    assert tuned["diff_ce"] == pytest.approx(2.67, abs=0.01)


def test_without_balanced_rows_that_is_said(folder: Path) -> None:
    assert tool("strategy_results").three_weights(folder) == "No published board has balanced rows.\n"


def _row(text: str, first: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    line = next(line for line in text.splitlines() if line.strip("| ").startswith(first))
    return [cell.strip() for cell in line.strip("|").split("|")]
