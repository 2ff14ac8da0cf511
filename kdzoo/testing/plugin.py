"""The pytest plugin: options for ``pytest --pyargs kdzoo.testing --strategy NAME``.

Pytest loads it in every session of an environment that has kdzoo, so it imports nothing heavy and adds its options only
where this package is asked for.
"""

from __future__ import annotations

import pytest

_PACKAGE = "kdzoo.testing"
MISSING = "say which strategy is checked: pytest --pyargs kdzoo.testing --strategy NAME"


class _Options:
    """What the command line takes."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Say what is checked."""
        group = parser.getgroup("kdzoo", "conformance of a kdzoo strategy")
        group.addoption("--strategy", action="append", metavar="NAME", help="strategy to check; may be repeated")
        group.addoption(
            "--plugin", action="append", metavar="FILE", help="Python file with strategies; may be repeated"
        )

    def pytest_collection(self, session: pytest.Session) -> None:
        """Tell what is missing before anything heavy is imported."""
        if not session.config.getoption("--strategy"):
            raise pytest.UsageError(MISSING)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Add the options before the command line is read for good."""
    asked = any(arg.partition("::")[0].startswith(_PACKAGE) for arg in args)
    if asked and not early_config.pluginmanager.has_plugin("kdzoo-options"):
        early_config.pluginmanager.register(_Options(), "kdzoo-options")
