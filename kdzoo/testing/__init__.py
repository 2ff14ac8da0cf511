"""The conformance kit: checks that hold a strategy to the contract and to the protocol.

``kdzoo check-strategy NAME`` runs them, and ``pytest --pyargs kdzoo.testing --strategy NAME`` makes a test of each. The
names listed here are public; they are imported on first use, since pytest loads this package in every session.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdzoo.testing.checks import CHECKS, run_checks
    from kdzoo.testing.kit import Check, Finding

_HOME_OF = {
    "CHECKS": "kdzoo.testing.checks",
    "Check": "kdzoo.testing.kit",
    "Finding": "kdzoo.testing.kit",
    "run_checks": "kdzoo.testing.checks",
}

__all__ = ["CHECKS", "Check", "Finding", "run_checks"]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'kdzoo.testing' has no attribute {name!r}")
