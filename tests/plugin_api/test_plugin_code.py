"""Where a strategy comes from, edited files, and errors that point at the plugin's own line."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.api import RESERVED

PLAIN = '''\
from kdzoo import Strategy, hookimpl, param


def gap(student, teacher):
    return (student - teacher).square().mean()


class Plain(Strategy):
    """The mean squared difference of the logits."""

    name = "plain"
    weight: float = param(0.01, "of the term", ge=0)

    def forward(self, student, teacher, batch):
        return {"mse": self.weight * gap(student.logits, teacher.logits)}


@hookimpl
def kdzoo_strategies():
    return [Plain]
'''
FIRST, LAST = 8, 15


def test_code_prints_origin_file_lines_and_source(kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]) -> None:
    path = plugin_file(PLAIN, "plain.py")
    result = kdzoo("strategies", "show", "plain", "--code", "--plugin", path)
    title, where, blank, *source = result.out.rstrip().splitlines()
    assert re.fullmatch(r"plain, from file [0-9a-f]{12}", title)
    assert where == f"{path}, lines {FIRST} to {LAST}"
    assert blank == ""
    assert source == PLAIN.splitlines()[FIRST - 1 : LAST]


def test_code_of_an_installed_one_and_of_each_part(kdzoo: Callable[..., Any], install: Callable[..., Path]) -> None:
    path = install("plainpack", PLAIN, version="2.5")
    shown = kdzoo("strategies", "show", "plain", "--code").out
    assert shown.startswith(f"plain, from plainpack 2.5\n{path}, lines {FIRST} to {LAST}\n\nclass Plain(Strategy):")
    both = kdzoo("strategies", "show", "soft+plain", "--code").out
    assert re.match(r"soft, from kdzoo \S+\n\S+soft\.py, lines \d+ to \d+\n\nclass SoftTargets", both)
    assert shown in both


def test_an_edited_file_is_another_strategy(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    asked = ("bench", *small, "--epochs", 1, "--strategies", "plain", "--plugin")
    path = plugin_file(PLAIN, "plain.py")
    assert kdzoo(*asked, path).code == 0
    before = records()["plain"]
    path.write_text(PLAIN.replace("0.01", "0.02"))
    assert kdzoo(*asked, path).code == 0
    found = [json.loads(one.read_bytes()) for one in Path("runs").glob("cells/*/record.json")]
    plain = [one for one in found if one["cell"]["strategy"]["name"] == "plain"]
    assert sorted(one["cell"]["strategy"]["params"]["weight"] for one in plain) == [0.01, 0.02]
    assert len({one["cell"]["strategy"]["revision"] for one in plain}) == 2
    assert all(one["cell"]["strategy"]["revision"] == one["environment"]["versions"]["file"] for one in plain)
    assert before["id"] in {one["id"] for one in plain}


@pytest.mark.exhaustive
def test_an_edit_of_an_installed_module_under_one_revision_is_told(
    kdzoo: Callable[..., Any], install: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    path = install("plainpack", PLAIN)
    asked = ("bench", *small, "--epochs", 1, "--strategies", "plain")
    assert "was edited" not in kdzoo(*asked).err
    record = records()["plain"]
    assert re.fullmatch(r"[0-9a-f]{12}", record["environment"]["versions"]["code of plainpack:plain"])
    assert "was edited" not in kdzoo(*asked).err
    path.write_text(PLAIN + "# edited\n")
    result = kdzoo(*asked)
    assert (
        "warning: plainpack:plain was edited since 1 of these cells ran, and their results are kept: raise its "
        "revision (for a model, change its name), or give --rerun always\n"
    ) in result.err
    assert records()["plain"] == record
    assert "was edited" not in kdzoo(*asked, "--rerun", "always").err
    assert "was edited" not in kdzoo(*asked).err


FAILING = """
    import torch

    from kdzoo import KdzooError, PairError, Strategy


    def deep(values):
        return values["missing"]  # here


    class Deep(Strategy):
        name = "deep"

        def forward(self, student, teacher, batch):
            return {"x": deep({})}


    class Shapes(Strategy):
        name = "shapes"

        def forward(self, student, teacher, batch):
            return {"x": torch.zeros(3) @ student.logits}  # there


    class Told(Strategy):
        name = "told"

        def forward(self, student, teacher, batch):
            raise KdzooError("told asks for a larger batch")


    class Unbuilt(Strategy):
        name = "unbuilt"

        def build(self, setup):
            self.size = setup.nothing  # not so
"""


def line_of(mark: str, code: str = FAILING) -> int:
    return 1 + next(place for place, line in enumerate(code.splitlines()) if line.endswith(mark))


@pytest.fixture
def failed(kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...]) -> Any:
    path = plugin_file(FAILING, "failing.py")
    return kdzoo(
        "bench", *small, "--epochs", 1, "--plugin", path, "--strategies", "deep,shapes,told,unbuilt", "--seeds", 2
    )


def test_failures_name_the_plugins_line(failed: Any, records: Callable[..., Any]) -> None:
    found = records()
    assert found["deep"]["reason"] == f"KeyError: 'missing' (failing.py:{line_of('# here')})"
    assert found["shapes"]["reason"].startswith("RuntimeError: ")
    assert found["shapes"]["reason"].endswith(f"(failing.py:{line_of('# there')})")
    assert found["told"]["reason"] == "told asks for a larger batch"
    line = f"(failing.py:{line_of('# not so')})"
    assert found["unbuilt"]["reason"] == f"AttributeError: 'Setup' object has no attribute 'nothing' {line}"
    assert re.search(rf"warning: unbuilt breaks on .*no attribute 'nothing' {re.escape(line)}", failed.err)


def test_the_printed_traceback_begins_in_the_plugin_and_the_record_keeps_all(
    failed: Any, records: Callable[..., Any], tmp_path: Path
) -> None:
    shown = failed.err.partition("\ndeep failed: ")[2].partition("\n\n")[0].splitlines()
    assert shown[0] == f"KeyError: 'missing' (failing.py:{line_of('# here')})"
    assert shown[1] == "Traceback (most recent call last), from the plugin on:"
    frames = [line for line in shown if line.startswith("  File ")]
    assert len(frames) == 2
    assert all(f'File "{tmp_path / "failing.py"}"' in frame for frame in frames)
    assert shown[-1] == "KeyError: 'missing'"
    assert failed.err.count("deep failed: ") == 1  # for both seeds
    assert "told failed: " not in failed.err
    whole = records()["deep"]["traceback"]
    assert whole.startswith("Traceback (most recent call last):")
    assert "train.py" in whole


def test_a_failure_of_an_installed_package_names_its_line(
    kdzoo: Callable[..., Any], install: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    code = PLAIN.replace("return (student - teacher)", "return (student - nothing)")
    path = install("failpack", code)
    kdzoo("bench", *small, "--epochs", 1, "--strategies", "plain")
    assert records()["plain"]["reason"] == f"NameError: name 'nothing' is not defined ({path.name}:5)"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def helper():\n    return 1 / 0\n\n\nhelper()\n", "ZeroDivisionError: division by zero (mine.py:2)"),
        ("x = 1\ndef broken(:\n", "(mine.py:2)"),
        ("import json\n\njson.loads('{')\n", "(mine.py:3)"),
        (
            "from kdzoo import Strategy, param\n\n\nclass One(Strategy):\n    name = 'one'\n    p = param(1.0, ge=2)\n",
            "(mine.py:6)",
        ),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' (mine.py:1)"),
    ],
)
def test_what_fails_at_loading_names_the_line_too(
    code: str, reason: str, kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], install: Callable[..., Path]
) -> None:
    path = plugin_file(textwrap.dedent(code))
    result = kdzoo("strategies", "--plugin", path)
    assert result.code == 2
    first = result.err.splitlines()[0]
    assert first.startswith(f"error: --plugin {path} failed: ")
    assert first.endswith(reason)
    assert "kdzoo/plugins.py" not in result.err
    installed = install("failpack", code)
    listed = kdzoo("plugins").out
    assert reason.replace("mine.py", installed.name) in listed


def test_a_file_with_dots_in_its_name_keeps_its_lines(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    path = plugin_file(FAILING, "my.second.try.py")
    kdzoo("bench", *small, "--epochs", 1, "--plugin", path, "--strategies", "deep")
    assert records()["deep"]["reason"] == f"KeyError: 'missing' (my.second.try.py:{line_of('# here')})"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *((name, "must begin with one of a-z") for name in ("--all", "-a", "2nd", "_private")),
        *((name, "must be of a-z, 0-9, _ and -") for name in ("Mine", "a b", "")),
    ],
)
def test_a_name_that_the_command_line_cannot_take_is_refused(
    name: str, rule: str, kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]
) -> None:
    result = kdzoo("strategies", "--plugin", plugin_file(PLAIN.replace('"plain"', repr(name)), "plain.py"))
    assert result.code == 2
    assert f"Plain.name {rule}, not {name!r}" in result.err


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_means_something_else_is_refused(
    name: str, kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]
) -> None:
    result = kdzoo("strategies", "--plugin", plugin_file(PLAIN.replace('"plain"', repr(name)), "plain.py"))
    assert result.code == 2
    assert f"Plain.name cannot be {name!r}" in result.err
