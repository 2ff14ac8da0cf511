"""One test for each check of each strategy that ``--strategy`` names: ``pytest --pyargs kdzoo.testing``."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from kdzoo.errors import KdzooError
from kdzoo.registry import Registry
from kdzoo.testing.catalogue import CHECKS
from kdzoo.testing.check import Check, Finding
from kdzoo.testing.plugin import MISSING
from kdzoo.testing.run import make_subject, run_check
from kdzoo.testing.subject import Subject


class ConformanceWarning(UserWarning):
    """A check of the strategy ended in a warning."""


class Bench:
    """A strategy and what was found of it so far."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.found: dict[str, Finding] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A strategy after the other, and of each the checks in their order."""
    names = metafunc.config.getoption("--strategy", default=None)
    if not names:
        raise pytest.UsageError(MISSING)
    metafunc.parametrize("bench", names, indirect=True, scope="module")
    metafunc.parametrize("check", CHECKS, ids=lambda check: check.name)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    """The strategy of that name, among the installed ones and those of ``--plugin`` files."""
    files = [Path(file) for file in request.config.getoption("--plugin", default=None) or ()]
    try:
        return Bench(make_subject(Registry.load(files).strategy(request.param)))
    except KdzooError as error:
        pytest.exit(f"error: {error}", returncode=pytest.ExitCode.USAGE_ERROR)


def test_conforms(bench: Bench, check: Check) -> None:
    """The check finds no fault."""
    finding = bench.found[check.name] = run_check(check, bench.subject, bench.found)
    if finding.status == "fail":
        pytest.fail(f"{check.name}: {finding.explain()}", pytrace=False)
    if finding.status == "skip":
        pytest.skip(finding.text)
    if finding.status == "warn":
        warnings.warn(ConformanceWarning(f"{check.name}: {finding.text}"), stacklevel=1)
