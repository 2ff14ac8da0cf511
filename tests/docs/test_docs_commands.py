"""Every command line that the documentation shows is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from docs_pages import NAMES, blocks, inline_commands, run_kdzoo, shown_commands, write_files

from kdzoo.cli import app, running
from kdzoo.config import BenchConfig
from kdzoo.data.dataset import parse_subset
from kdzoo.data.hub_columns import Columns
from kdzoo.matrix import resolve_recipes, resolve_spaces, resolve_strategies
from kdzoo.models.zoo import check_model
from kdzoo.refs import ModelRef
from kdzoo.registry import Registry

SHOWN = [(name, command) for name in NAMES for command in dict.fromkeys(shown_commands(name))]
INLINE = [(name, command) for name in NAMES for command in dict.fromkeys(inline_commands(name))]
BENCHES = [
    (name, command)
    for name, command in SHOWN
    if command.startswith(("kdzoo bench", "kdzoo tune")) and "--show" not in command
]


def _parse(arguments: list[str]) -> dict[str, Any]:
    """The values that typer reads from the arguments, by the command's name; no command runs."""
    read: dict[str, Any] = {}

    def disarm(command: Any, name: str) -> None:
        command.callback = lambda **values: read.update({name: values})
        for child, inner in getattr(command, "commands", {}).items():
            disarm(inner, child)

    command: Any = typer.main.get_command(app)
    for child, inner in command.commands.items():
        disarm(inner, child)
    command.main(arguments, prog_name="kdzoo", standalone_mode=False)
    return read


@pytest.mark.parametrize(("page", "command"), SHOWN + INLINE)
def test_command_parses(page: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    # A command's name in a sentence, without what it needs.
    if command in {"kdzoo " + name for name in ("bank", "check-strategy", "data", "merge", "new", "pair")}:
        words.append("--help")
    read = _parse(words)
    if "--help" in words:
        assert "Usage: kdzoo" in capsys.readouterr().out
    else:
        assert words[0] in read


def test_a_wrong_flag_does_not_parse() -> None:
    with pytest.raises(Exception, match=r"(?i)no such option"):
        _parse(["bench", "--strategy", "soft"])


@pytest.mark.parametrize(("page", "command"), BENCHES)
def test_bench_is_possible(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench gets as far as its plan: strategies, parameters, ranges, recipes, models and datasets are known."""
    planned: list[BenchConfig] = []

    def check(config: BenchConfig, registry: Registry) -> None:
        strategies = resolve_strategies(config, registry)
        spaces = resolve_spaces(config, strategies, resolve_recipes(config).student, registry)
        assert config.tune is None or any(spaces.values())
        for teacher, student in config.all_pairs():
            for ref in (*ModelRef.parse_several(teacher), ModelRef.parse(student)):
                check_model(ref)
        for dataset in config.dataset:
            name, _ = parse_subset(dataset)
            if name.startswith("hfds/"):
                Columns.parse(name)
            elif not name.startswith("folder:"):  # a folder of whoever reads the page
                registry.find_dataset(name)
        planned.append(config)
        raise typer.Exit

    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "make_plan", check)
    for name, file in (("embedding", "embedding.py"), ("mine", "kdzoo_mine/strategy.py")):
        # Where the page has no --plugin, the strategy comes from an installed package.
        if re.search(rf"--strategies \S*\b{name}\b", command) and "--plugin" not in command:
            command += f" --plugin {file}"
    run_kdzoo(command)
    assert len(planned) == 1


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/strategies.md",
        "docs/data.md",
        "docs/models.md",
        "docs/tuning.md",
        "docs/leaderboards.md",
        "docs/statistics.md",
    ],
)
def test_pages_show_commands(name: str) -> None:
    assert blocks(name, "console")
    assert shown_commands(name)
