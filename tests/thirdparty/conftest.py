"""kdzoo and the plugin as a third party has them: from their wheels, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from other_environment import Environment, build_wheel, install, make_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def plugin_source() -> Path:
    return ROOT / "plugins" / "kdzoo_seed"


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory, plugin_source: Path) -> Environment:
    """An environment with both wheels; before they are installed, neither package can be imported there."""
    folder = tmp_path_factory.mktemp("theirs")
    environment = make_environment(folder)
    found = (
        "import importlib.util as util; print([util.find_spec(name) for name in ('kdzoo', 'kdzoo_zoo', 'kdzoo_seed')])"
    )
    assert environment.run("python", "-c", found) == "[None, None, None]\n"
    install(environment, build_wheel(ROOT, folder / "ours"), build_wheel(plugin_source, folder / "plugin"))
    return environment
