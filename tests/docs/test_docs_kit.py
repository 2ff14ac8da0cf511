"""The strategies that the pages show pass the conformance kit, and the commands that call it do what is said."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_pages import NAMES, blocks, inline_commands, run_kdzoo, shown_commands, write_files
from typer.testing import CliRunner

from kdzoo.cli import app
from kdzoo.registry import Registered, Registry
from kdzoo.strategy import Strategy
from kdzoo.testing import CHECKS, run_checks
from kdzoo.testing.checks import GROUPS

pytestmark = pytest.mark.exhaustive

ELSEWHERE = {
    "docs/tutorial.md": "its strategy is checked in the package of which it is a part",
    "docs/troubleshooting.md": "each of its strategies has one mistake",
}
_NAMED = re.compile(r'^    name = "(\w+)"$', re.MULTILINE)
WHOLE = [
    (page, f"kdzoo check-strategy {'soft+' if 'modifies = ' in block.text else ''}{name} --plugin {block.title}")
    for page in NAMES
    if page not in ELSEWHERE
    for block in blocks(page, "python")
    if block.title and "(Strategy):" in block.text
    for name in _NAMED.findall(block.text)
]
SHOWN = [("docs/strategies.md", one) for one in shown_commands("docs/conformance.md") if "--plugin" in one]
TRAINED = {check.name for check in GROUPS["Training"]}
UNTRAINED = [check.name for check in CHECKS if check.name not in TRAINED]


def test_pages_with_whole_strategies_are_all_found() -> None:
    assert [(page, command.split()[2]) for page, command in WHOLE] == [
        ("README.md", "logit_matching"),
        ("docs/api.md", "nearest"),
        ("docs/combinations.md", "soft+bounded"),
        ("docs/contract.md", "similarity"),
        ("docs/porting.md", "decoupled"),
        ("docs/porting.md", "similar"),
        ("docs/strategies.md", "embedding"),
    ]


@pytest.mark.parametrize(("page", "command"), WHOLE + SHOWN, ids=[command for _, command in WHOLE + SHOWN])
def test_a_whole_strategy_passes_every_check(
    page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    told = run_kdzoo(command)
    assert not re.findall(r"^fail .*", told, re.MULTILINE)
    name = command.split()[2]
    origin = rf"{'kdzoo[+]' if '+' in name else ''}file [\w.+]+"
    assert re.search(rf"^{re.escape(name)} \({origin}\): \d+ passed", told, re.MULTILINE), told


def parts(page: str, folder: Path) -> Iterator[Registered[type[Strategy]]]:
    """The strategies of a page's blocks without a file's name, as one plugin."""
    told = blocks(page, "python")
    code = [block for block in told if not (block.title or "").startswith("kdzoo_")]
    path = folder / "page.py"
    path.write_text("\n\n".join(block.text for block in code), encoding="utf-8")
    whole = {name for block in told if block.title for name in _NAMED.findall(block.text)}
    for entry in Registry.load([path]).strategies:
        if entry.plugin.is_file and entry.name not in whole:
            yield entry


@pytest.mark.parametrize(("page", "count"), [("docs/contract.md", 15), ("docs/strategies.md", 7)])
def test_a_part_of_a_page_fails_the_card_at_most(page: str, count: int, tmp_path: Path) -> None:
    entries = list(parts(page, tmp_path))
    assert len(entries) == count
    for entry in entries:
        faults = [each for each in run_checks(entry, only=UNTRAINED) if each.status == "fail"]
        told = [f"{entry.name}: {each.check.name}: {each.text}" for each in faults if each.check.name != "card"]
        assert not told


def test_commands_that_show_a_file_find_its_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/strategies.md"
    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = [one for one in inline_commands(page) if one.startswith("kdzoo strategies") and "embedding.py" in one]
    assert len(asked) == 2
    listed, card = map(run_kdzoo, asked)
    assert re.search(r"^.* embedding .* file$", listed, re.MULTILINE)
    assert card.startswith("embedding (feature), from file ")
    code = run_kdzoo(f"{asked[1]} --code")
    assert "embedding.py, lines " in code
    assert "class EmbeddingRegression(Strategy):" in code


def test_the_kit_finds_the_mistakes_of_the_page_on_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/troubleshooting.md"
    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    (command,) = [one for one in inline_commands(page) if one.startswith("kdzoo check-strategy")]
    for name in ("forgetful", "per_sample", "log_of_zero"):
        words = shlex.split(command.replace("forgetful", name))[1:]
        result = CliRunner().invoke(app, [*words, "--only", "terms"])
        assert result.exit_code == 1, name
        assert re.search(r"^fail +terms ", result.stdout, re.MULTILINE), result.stdout
