"""One test for each check of each strategy that ``--strategy`` names: ``pytest --pyargs kdzoo.testing``."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from kdzoo.errors import KdzooError
from kdzoo.registry import Registry
from kdzoo.testing.checks import CHECKS
from kdzoo.testing.kit import Check, Finding, make_subject, run_check
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.plugin import MISSING


class ConformanceWarning(UserWarning):
    """A check of the strategy ended in a warning."""


class CheckedStrategy:
    """A strategy and what was found of it so far."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.found: dict[str, Finding] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A strategy after the other, and of each the checks in their order."""
    names = metafunc.config.getoption("--strategy", default=None)
    if not names:
        raise pytest.UsageError(MISSING)
    metafunc.parametrize("checked", names, indirect=True, scope="module")
    metafunc.parametrize("check", CHECKS, ids=lambda check: check.name)


@pytest.fixture(scope="module")
def checked(request: pytest.FixtureRequest) -> CheckedStrategy:
    """The strategy of that name, among the installed ones and those of ``--plugin`` files."""
    files = [Path(file) for file in request.config.getoption("--plugin", default=None) or ()]
    try:
        return CheckedStrategy(make_subject(Registry.load(files).strategy(request.param)))
    except KdzooError as error:
        pytest.exit(f"error: {error}", returncode=pytest.ExitCode.USAGE_ERROR)


def test_conforms(checked: CheckedStrategy, check: Check) -> None:
    """The check finds no fault."""
    finding = checked.found[check.name] = run_check(check, checked.subject, checked.found)
    if finding.status == "fail":
        pytest.fail(f"{check.name}: {finding.explain()}", pytrace=False)
    if finding.status == "skip":
        pytest.skip(finding.text)
    if finding.status == "warn":
        warnings.warn(ConformanceWarning(f"{check.name}: {finding.text}"), stacklevel=1)
