"""The command line starts at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from waiting import output_of

SCRIPT = Path(sys.executable).with_name("kdzoo")
HEAVY = {"torch", "timm", "torchvision", "accelerate", "pandas", "numpy", "scipy", "sklearn", "optuna", "matplotlib"}


def python(code: str) -> str:
    return output_of(sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("module", "light"),
    [
        ("kdzoo", HEAVY | {"pydantic", "typer", "rich"}),
        ("kdzoo.cli", HEAVY | {"pydantic", "rich"}),
        ("kdzoo.config", HEAVY),
        ("kdzoo.record", HEAVY),
        ("kdzoo.store", HEAVY),
        ("kdzoo.plugins", HEAVY),
        ("kdzoo.board.render", {"torch", "timm", "accelerate"}),
    ],
)
def test_importing_is_light(module: str, light: set[str]) -> None:
    loaded = set(python(f"import sys, {module}; print(*sys.modules)").split())
    assert module in loaded
    assert not loaded & light


def test_public_names_come_when_they_are_asked_for() -> None:
    code = "import sys, kdzoo; kdzoo.UsageError, kdzoo.hookimpl, kdzoo.param, dir(kdzoo); print('torch' in sys.modules)"
    assert python(code) == "False\n"


def processor_time(*command: object) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output_of(*command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_installed_script_answers_in_a_moment(option: str) -> None:
    """In twice the time of the imports that it cannot do without; by turns, as the machine may be doing other things.

    Twice that, again, is allowed.
    """
    needed = "import importlib.metadata, typer, rich.console, rich.panel, rich.table, rich.text"
    own, least = float("inf"), float("inf")
    for _ in range(10):
        own = min(own, processor_time(SCRIPT, option))
        least = min(least, processor_time(sys.executable, "-c", needed))
        if own < 4 * least:
            break
    assert own < 4 * least


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_installed_script_answers(option: str, tmp_path: Path) -> None:
    variables = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([SCRIPT, option], check=True, capture_output=True, text=True, cwd=tmp_path, env=variables)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "kdzoo.cli" in imported
    assert not imported & (HEAVY | {"pydantic"})
    expected = (
        rf"kdzoo {re.escape(version('kdzoo'))}\n" if option == "--version" else r"(?s).*Usage: kdzoo.*bench.*board"
    )
    assert re.match(expected, done.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["bench", "--help"], 0),
        ([], 2),
        (["bnech"], 2),
        (["bench", "--seeds", "0"], 2),
        (["board", "--out", "nothing-here"], 2),
    ],
)
def test_the_installed_scripts_exit_codes(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sentence_goes_to_standard_error(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, "bench", "--epochs", "0"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("", "error: --epochs must be at least 1, not 0\n")
