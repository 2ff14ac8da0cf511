"""A plugin says for which version of the API it was written; another one is told when it is loaded."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdzoo as public
from kdzoo import api
from kdzoo.plugins import Plugin, load_plugins

STRATEGY = """
from kdzoo import Strategy, hookimpl

{declaration}

class Mine(Strategy):
    name = "mine"

@hookimpl
def kdzoo_strategies():
    return [Mine]
"""


def found(distribution: str) -> Plugin:
    return next(plugin for plugin in load_plugins() if plugin.distribution == distribution)


def test_the_version_is_major_and_minor() -> None:
    assert re.fullmatch(r"\d+\.\d+", public.API_VERSION)
    assert public.API_VERSION == api.API_VERSION


def test_every_public_name_is_there_and_documented() -> None:
    for name in public.__all__:
        value = getattr(public, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


@pytest.mark.parametrize(
    ("here", "declared", "reason"),
    [
        ("1.0", "1.0", ""),
        ("1.3", "1.0", ""),
        ("1.3", "1.3", ""),
        ("1.3", "1.4", "it was written for version 1.4 of kdzoo's API, and this kdzoo has 1.3: upgrade kdzoo"),
        ("1.3", "2.0", "it was written for version 2.0 of kdzoo's API, and this kdzoo has 1.3: upgrade kdzoo"),
        ("2.0", "1.9", "it was written for version 1.9 of kdzoo's API, and this kdzoo has 2.0: upgrade the plugin"),
        ("1.10", "1.9", ""),
        ("1.9", "1.10", "it was written for version 1.10 of kdzoo's API, and this kdzoo has 1.9: upgrade kdzoo"),
    ],
)
def test_another_major_and_a_newer_minor_do_not_fit(
    here: str, declared: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "API_VERSION", here)
    assert api.mismatch(declared) == reason


@pytest.mark.parametrize(
    ("declaration", "state"),
    [
        ("", ("", "", ["mine"])),
        ('kdzoo_api = "1.0"', ("1.0", "", ["mine"])),
        ('kdzoo_api = "2.0"', ("2.0", "version 2.0 of kdzoo's API", [])),
        ('kdzoo_api = "1.99"', ("1.99", "version 1.99 of kdzoo's API", [])),
        ("kdzoo_api = 1.0", ("", "ValueError: kdzoo_api must be a text such as '1.2', not 1.0", [])),
        ('kdzoo_api = "one"', ("", "ValueError: kdzoo_api must be a text such as '1.2', not 'one'", [])),
        ('kdzoo_api: str = "3.1"\nfrom kdzoo import Nothing', ("3.1", "version 3.1 of kdzoo's API", [])),
        ('from kdzoo import Nothing\nkdzoo_api = "1.0"', ("", "ImportError: cannot import name 'Nothing'", [])),
    ],
)
def test_an_installed_plugin_is_compared_when_it_is_loaded(
    declaration: str, state: tuple[str, str, list[str]], install: Callable[..., Path]
) -> None:
    install("wholepack", STRATEGY.format(declaration="").replace('"mine"', '"whole"'))
    install("apipack", STRATEGY.format(declaration=declaration))
    plugin = found("apipack")
    version, error, names = state
    assert plugin.api == version
    assert plugin.error.startswith(error) or error in plugin.error
    assert bool(plugin.error) == bool(error)
    assert [each.name for each in plugin.strategies] == names
    assert [each.name for each in found("wholepack").strategies] == ["whole"]


def test_an_object_may_declare_it_too(install: Callable[..., Path], tmp_path: Path) -> None:
    code = """
        from kdzoo import hookimpl

        class Bundle:
            kdzoo_api = "7.0"

            @hookimpl
            def kdzoo_datasets(self):
                return []

        bundle = Bundle()
    """
    path = install("objectpack", code)
    info = tmp_path / "site" / "objectpack-1.0.dist-info" / "entry_points.txt"
    info.write_text(f"[kdzoo]\nobjectpack = {path.stem}:bundle\n")
    assert "version 7.0" in found("objectpack").error


def test_the_table_of_plugins_says_it(kdzoo: Callable[..., Any], install: Callable[..., Path]) -> None:
    install("oldpack", STRATEGY.format(declaration=""))
    install("newpack", STRATEGY.format(declaration='kdzoo_api = "1.99"'))
    result = kdzoo("plugins")
    rows = {line.split()[0]: line.split()[-2:] for line in result.out.partition("\n\n")[0].splitlines()}
    assert rows["zoo"] == ["1.2", "ok"]
    assert rows["oldpack"] == ["undeclared", "ok"]
    assert rows["newpack"] == ["1.99", "failed"]
    assert (
        "newpack (newpack 1.0) failed to load: it was written for version 1.99 of kdzoo's API, and this kdzoo has "
        f"{public.API_VERSION}: upgrade kdzoo\n"
    ) in result.out
    assert "mine" in kdzoo("strategies").out


def test_a_single_file_is_compared_too(kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]) -> None:
    path = plugin_file(STRATEGY.format(declaration='kdzoo_api = "2.0"'))
    result = kdzoo("strategies", "--plugin", path)
    assert result.code == 2
    assert result.err.startswith(f"error: --plugin {path} failed: it was written for version 2.0 of kdzoo's API")
    path = plugin_file(STRATEGY.format(declaration='kdzoo_api = "1.0"'))
    assert kdzoo("plugins", "--plugin", path).out.splitlines()[-1].split()[-2:] == ["1.0", "ok"]
