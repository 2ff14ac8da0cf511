"""Third-party distributions on the command line, laid out as an installer does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

_numbers = count()

GOOD = """
    from kdzoo import Strategy, hookimpl

    class Mine(Strategy):
        name = "mine"

        def forward(self, student, teacher, batch):
            return {"gap": 0.01 * (student.logits - teacher.logits).square().mean()}

    @hookimpl
    def kdzoo_strategies():
        return [Mine]
"""


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    site = tmp_path_factory.mktemp("site")

    def lay_out(name: str, version: str, code: str) -> None:
        module = f"kdzoo_cli_test_module_{next(_numbers)}"
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kdzoo]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(site)

    return lay_out


def test_lists_what_is_installed(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("plugins")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0].split() == [
        "plugin", "distribution", "version", "strategies", "datasets", "api", "state",
    ]  # fmt: skip
    for name in ("zoo", "soft", "digits", "fashion_mnist"):
        assert name in result.out


def test_a_plugin_that_failed_is_reported_with_its_reason(
    kdzoo: Callable[..., Any], install: Callable[..., None]
) -> None:
    install("goodpack", "1.5", GOOD)
    install("badpack", "0.3", "def deep():\n    import nothing_of_this_name\n\ndeep()\n")
    install("idlepack", "0.1", "x = 1")
    result = kdzoo("plugins")
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.strip()}
    assert rows["goodpack"] == ["goodpack", "goodpack", "1.5", "mine", "-", "undeclared", "ok"]
    assert rows["idlepack"] == ["idlepack", "idlepack", "0.1", "-", "-", "undeclared", "empty"]
    assert "badpack (badpack 0.3) failed to load: ModuleNotFoundError: No module named 'nothing_of" in result.out
    assert "in deep" not in result.out
    assert "in deep" in kdzoo("plugins", "--verbose").out
    assert result.code == 0
    listed = kdzoo("strategies")
    assert "mine" in listed.out
    assert listed.err.startswith("warning: plugin badpack (badpack 0.3) is left out: ModuleNotFoundError")


def test_a_clash_is_settled_by_the_distributions_name_and_recorded(
    kdzoo: Callable[..., Any], install: Callable[..., None], small: tuple[Any, ...], tmp_path: Path
) -> None:
    install("leftpack", "1.1", GOOD)
    install("rightpack", "2.2", GOOD.replace("0.01", "0.02"))
    clash = kdzoo(*small, "--strategies", "mine")
    assert clash.code == 2
    assert clash.err == (
        "error: strategy 'mine' is brought by leftpack and rightpack; choose one, for example leftpack:mine\n"
    )
    assert list(tmp_path.iterdir()) == []
    result = kdzoo(*small, "--strategies", "rightpack:mine")
    assert result.code == 0, result.err
    found = [json.loads(path.read_bytes()) for path in tmp_path.glob("runs/cells/*/record.json")]
    mine = next(each for each in found if each["cell"]["strategy"]["name"] == "mine")
    assert mine["cell"]["strategy"]["distribution"] == "rightpack"
    assert mine["environment"]["versions"]["rightpack"] == "2.2"


def test_a_second_baseline_on_the_machine_can_be_passed_over(
    kdzoo: Callable[..., Any], install: Callable[..., None], small: tuple[Any, ...], tmp_path: Path
) -> None:
    install("leftpack", "1.1", GOOD.replace('"mine"', '"ce"'))
    clash = kdzoo(*small, "--strategies", "plain")
    assert clash.code == 2
    assert "strategy 'ce' is brought by kdzoo and leftpack; choose one, for example kdzoo:ce" in clash.err
    result = kdzoo(*small, "--strategies", "kdzoo:ce,plain", "--epochs", 1)
    assert result.code == 0, result.err
    found = [json.loads(path.read_bytes()) for path in tmp_path.glob("runs/cells/*/record.json")]
    assert {each["cell"]["strategy"]["distribution"] for each in found} == {"kdzoo", "file"}


def test_a_broken_plugin_stops_no_bench(
    kdzoo: Callable[..., Any], install: Callable[..., None], small: tuple[Any, ...]
) -> None:
    install("badpack", "0.3", "1 / 0")
    result = kdzoo(*small, "--strategies", "ce", "--epochs", 1)
    assert result.code == 0, result.err
    assert result.err.startswith("warning: plugin badpack (badpack 0.3) is left out: ZeroDivisionError")
    missing = kdzoo(*small, "--strategies", "mine")
    assert missing.code == 2
    assert "(not loaded: badpack; see `kdzoo plugins`)" in missing.err
