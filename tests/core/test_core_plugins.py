"""Plugins are found as installed distributions and as single files; a broken one harms no other."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from kdzoo import UsageError
from kdzoo.plugins import Plugin, load_plugins
from kdzoo.registry import Registry

_numbers = count()

STRATEGY = """
    from kdzoo import Strategy, hookimpl, param

    class Mine(Strategy):
        name = "{name}"

    @hookimpl
    def kdzoo_strategies():
        return [Mine]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lay out a distribution as an installer does: a module, and a dist-info folder that announces it."""
    site = tmp_path / "site"
    site.mkdir()

    def lay_out(name: str, code: str, *, version: str = "1.0", metadata: bool = True) -> None:
        module = f"kdzoo_test_module_{next(_numbers)}"
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[kdzoo]\n{name}-plugin = {module}\n")
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(site)

    return lay_out


@pytest.fixture
def load_file(tmp_path: Path) -> Callable[[str], Plugin]:
    def load(code: str, name: str = "mine.py") -> Plugin:
        path = tmp_path / name
        path.write_text(textwrap.dedent(code))
        return load_plugins([path])[-1]

    return load


def found(distribution: str) -> Plugin:
    return next(plugin for plugin in load_plugins() if plugin.distribution == distribution)


def test_built_ins_come_through_the_door_of_everybody() -> None:
    names = {plugin.name: plugin for plugin in load_plugins() if plugin.distribution == "kdzoo"}
    assert sorted(names) == ["data", "zoo"]
    assert {"ce", "soft", "fitnets", "at", "rkd"} <= {each.name for each in names["zoo"].strategies}
    assert "digits" in {each.name for each in names["data"].datasets}


def test_an_installed_plugin_keeps_its_distribution_and_version(install: Callable[..., None]) -> None:
    install("alpha-pack", STRATEGY.format(name="alpha"), version="2.5")
    plugin = found("alpha-pack")
    assert (plugin.name, plugin.version, plugin.error) == ("alpha-pack-plugin", "2.5", "")
    assert [each.name for each in plugin.strategies] == ["alpha"]
    assert plugin.strategies[0].revision == "1"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "from kdzoo import hookimpl\n@hookimpl\ndef kdzoo_strategies():\n    raise RuntimeError('two\\nlines')",
            "RuntimeError: two",
        ),
        (
            "from kdzoo import hookimpl\n@hookimpl\ndef kdzoo_strategies():\n    return [3]",
            "TypeError: kdzoo_strategies must",
        ),
        (
            "from kdzoo import hookimpl\n@hookimpl\ndef kdzoo_datasets():\n    return ['x']",
            "TypeError: kdzoo_datasets must",
        ),
        (
            "from kdzoo import hookimpl\n@hookimpl\ndef kdzoo_strategy():\n    return []",
            "LookupError: unknown hook 'kdzoo_strategy'; did you mean",
        ),
        (STRATEGY.format(name="Alpha 1"), "ValueError: Mine.name must be of a-z, 0-9, _ and -, not 'Alpha 1'"),
        (STRATEGY.format(name=""), "ValueError: Mine.name must be of a-z, 0-9, _ and -, not ''"),
        (STRATEGY.format(name="recipe"), "ValueError: Mine.name cannot be 'recipe'"),
        (STRATEGY.format(name="all"), "ValueError: Mine.name cannot be 'all'"),
        (
            STRATEGY.format(name="alpha").replace('"alpha"', '"alpha"; signals = ("logitz",)'),
            "ValueError: 'alpha' asks for unknown signals ['logitz']; known: logits, stages, embedding, classifier",
        ),
    ],
)
def test_a_plugin_that_fails_is_reported_and_stops_no_other(
    code: str, error: str, install: Callable[..., None]
) -> None:
    install("broken-pack", code)
    install("whole-pack", STRATEGY.format(name="whole"))
    plugin = found("broken-pack")
    assert error in plugin.error
    assert "\n" not in plugin.error
    assert (plugin.strategies, plugin.datasets) == ([], [])
    assert [each.name for each in found("whole-pack").strategies] == ["whole"]
    assert found("kdzoo").error == ""


def test_a_failure_says_where(install: Callable[..., None]) -> None:
    install("broken-pack", "def helper():\n    return 1 / 0\n\nhelper()\n")
    traceback = found("broken-pack").traceback
    assert "in helper" in traceback
    assert "plugins.py" not in traceback


def test_a_distribution_without_metadata_does_not_stop_the_others(install: Callable[..., None]) -> None:
    install("nameless", STRATEGY.format(name="lonely"), metadata=False)
    install("whole-pack", STRATEGY.format(name="whole"))
    registry = Registry.load()
    assert registry.strategy("lonely").plugin.distribution.startswith("kdzoo_test_module_")
    assert registry.strategy("whole").plugin.distribution == "whole-pack"


def test_a_clash_names_both_distributions_and_a_prefix_picks_one(install: Callable[..., None]) -> None:
    install("beta-pack", STRATEGY.format(name="mine"), version="0.2")
    install("alpha-pack", STRATEGY.format(name="mine"), version="0.1")
    registry = Registry.load()
    with pytest.raises(UsageError) as caught:
        registry.strategy("mine")
    assert str(caught.value) == (
        "strategy 'mine' is brought by alpha-pack and beta-pack; choose one, for example alpha-pack:mine"
    )
    for distribution, version in (("alpha-pack", "0.1"), ("beta-pack", "0.2")):
        picked = registry.strategy(f"{distribution}:mine")
        assert (picked.plugin.distribution, picked.plugin.version) == (distribution, version)


def test_a_name_of_a_plugin_that_failed_is_told_with_it(install: Callable[..., None]) -> None:
    install("broken-pack", "1 / 0")
    with pytest.raises(
        UsageError, match=r"unknown strategy 'mine'.* \(not loaded: broken-pack-plugin; see `kdzoo plugins`\)"
    ):
        Registry.load().strategy("mine")


def test_a_single_file_needs_no_hook(load_file: Callable[..., Plugin]) -> None:
    plugin = load_file(
        """
        from kdzoo import Strategy

        class Base(Strategy):
            pass  # no name: not offered

        class One(Base):
            name = "one"

        class Two(Base):
            name = "two"

        Alias = One
        """
    )
    assert (plugin.name, plugin.distribution, plugin.is_file) == ("mine", "file", True)
    assert [each.name for each in plugin.strategies] == ["one", "two"]


def test_a_single_files_content_is_its_version_and_revision(load_file: Callable[..., Plugin]) -> None:
    code = textwrap.dedent(STRATEGY).format(name="one")
    first, again, changed = load_file(code), load_file(code), load_file(code + "# changed\n")
    assert first.version == again.version != changed.version
    assert {each.strategies[0].revision for each in (first, again)} == {first.version}
    assert changed.strategies[0].revision == changed.version
    assert [each.name for each in first.strategies] == ["one"]


def test_an_edit_within_a_second_is_seen(tmp_path: Path) -> None:
    code = 'from kdzoo import Strategy, param\nclass One(Strategy):\n    name = "one"\n    p: float = param(1.0)\n'
    path = tmp_path / "mine.py"
    values = []
    for text in (code, code.replace("1.0", "2.0")):
        path.write_text(text)
        os.utime(path, (1, 1))  # same size, same time: all that Python's cache looks at
        values.append(load_plugins([path])[-1].strategies[0].hyperparameters()["p"].default)
    assert values == [1.0, 2.0]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "defines neither a strategy nor a hook: write a subclass of kdzoo.Strategy with a name"),
        ("from kdzoo import Strategy", "defines neither a strategy nor a hook"),
        ("def broken(:", "failed: SyntaxError: invalid syntax"),
        ("import nowhere_to_be_found", "failed: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit", "failed: SystemExit"),
        (STRATEGY.format(name="Not Good"), "failed: ValueError: Mine.name must be of a-z"),
    ],
)
def test_a_broken_file_is_refused(code: str, message: str, load_file: Callable[..., Plugin]) -> None:
    before = set(sys.modules)
    with pytest.raises(UsageError, match=message):
        load_file(code)
    assert not [name for name in set(sys.modules) - before if "mine" in name and "failed" in message]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plugin .*none\.py cannot be read: no such file or directory"):
        load_plugins([tmp_path / "none.py"])
    with pytest.raises(UsageError, match=r"--plugin .* is no plain file but a folder; give a Python file"):
        load_plugins([tmp_path])


def test_a_file_of_another_kind_is_refused(load_file: Callable[..., Plugin]) -> None:
    with pytest.raises(UsageError, match=r"notes\.txt is not a Python file"):
        load_file("x = 1", name="notes.txt")


def test_a_file_that_passes_on_an_installed_strategy_leaves_its_identity(load_file: Callable[..., Plugin]) -> None:
    from kdzoo_zoo.response.soft import SoftTargets

    before = SoftTargets.revision
    plugin = load_file(
        "from kdzoo import hookimpl\nfrom kdzoo_zoo.response.soft import SoftTargets\n"
        "@hookimpl\ndef kdzoo_strategies():\n    return [SoftTargets]\n"
    )
    assert plugin.strategies == [SoftTargets]
    assert SoftTargets.revision == before
