"""The generated parts of the documentation are what the code gives now."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from docs_pages import NAMES, read, tool

from kdzoo import hookspecs
from kdzoo.cli import app
from kdzoo.config import BenchConfig
from kdzoo.flags import OPTIONS
from kdzoo.recipe import Augment, Recipe
from kdzoo.registry import Registry

HINT = "run `python docs/generate.py`"


@pytest.mark.parametrize("name", ["configuration.md", "hooks.md", "cards.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    generate = tool("generate")
    assert read(f"docs/{name}") == generate.WHOLE[generate.DOCS / name](), HINT


def test_no_generated_page_is_left_out_here() -> None:
    assert {path.name for path in tool("generate").WHOLE} == {"configuration.md", "hooks.md", "cards.md"}


def test_every_built_in_strategy_has_its_card() -> None:
    built_in = {entry.name for entry in Registry.load().strategies if entry.plugin.distribution == "kdzoo"}
    assert set(re.findall(r"^### (\S+)$", read("docs/cards.md"), re.MULTILINE)) == built_in


def test_every_hook_has_its_section() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("kdzoo_")}
    assert set(re.findall(r"^### (\S+)$", read("docs/hooks.md"), re.MULTILINE)) == hooks


@pytest.mark.parametrize("name", [name for name in NAMES if "<!-- generated: " in read(name)])
def test_generated_parts_are_up_to_date(name: str) -> None:
    generate = tool("generate")
    assert generate.filled(read(name), generate.CHEAP) == read(name), HINT


def test_a_stale_part_is_replaced_and_others_stay() -> None:
    end = "<!-- end of generated -->"
    text = f"a\n<!-- generated: one -->\nold\n{end}\n<!-- generated: two -->\nx\n{end}\n"
    assert tool("generate").filled(text, {"one": lambda: "new\n"}) == text.replace("old", "new")


def test_every_marked_part_has_its_maker() -> None:
    generate = tool("generate")
    known = {*generate.CHEAP, *(f"{name} board" for name in generate.BOARDS)}
    marked = [part for name in NAMES for part in re.findall(r"<!-- generated: ([\w -]+) -->", read(name))]
    assert set(marked) == known


def test_strategies_table_is_the_registry() -> None:
    table = re.search(r"<!-- generated: strategies table -->\n(.*?)<!-- end", read("README.md"), re.DOTALL)
    assert table is not None
    listed = set(re.findall(r"`([\w-]+)`", table[1]))
    assert listed == {entry.name for entry in Registry.load().strategies if entry.plugin.distribution == "kdzoo"}


@pytest.mark.parametrize("name", ["quick", "card"])
def test_boards_of_the_readme_come_from_their_commands(name: str) -> None:
    block = re.search(rf"<!-- generated: {name} board -->\n(.*?)<!-- end", read("README.md"), re.DOTALL)
    assert block is not None
    assert f"$ {tool('generate').BOARDS[name]}" in block[1]
    assert re.search(r"^\d +\S.* \d+\.\d\d .* (\d)/\1 ", block[1], re.MULTILINE), "no row with a top-1"
    assert "Ran on " in block[1]


@pytest.mark.parametrize("model", [Recipe, Augment])
def test_every_key_of_a_recipe_is_described(model: type[Recipe | Augment]) -> None:
    assert set(tool("reference").arguments(model)) == set(model.model_fields)


def test_configuration_and_command_line_are_made_from_one_table() -> None:
    """A key that only one of the two knows, or a default that the help says otherwise, is found here."""
    assert {name for name in OPTIONS if name not in ("config", "plugin")} == set(BenchConfig.model_fields)
    for name, option in OPTIONS.items():
        said = re.search(r"by default (\d\w*|runs)|(\w+) \(the default", option.help)
        if said and name != "gpus_per_cell" and (default := BenchConfig.model_fields[name].default) is not None:
            assert str(default) in (said[1], said[2]), name


def test_every_option_has_its_flag_in_help() -> None:
    group: Any = typer.main.get_command(app)
    shown = {flag for param in group.commands["bench"].params for flag in param.opts}
    assert {flag.partition("/")[0] for option in OPTIONS.values() if option.flag for flag in option.spelled} <= shown


def test_exit_codes_are_listed() -> None:
    assert re.findall(r"^\| `(\d+)`", tool("reference").exit_codes(), re.MULTILINE) == ["0", "1", "2", "130"]
