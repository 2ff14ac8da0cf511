"""SEED for kdzoo: a student learns the teacher's similarities to a queue of samples, first without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdzoo import hookimpl

if TYPE_CHECKING:
    from kdzoo import Strategy

kdzoo_api = "1.0"
"""The version of kdzoo's API that this plugin is written for."""


@hookimpl
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The one strategy; torch is imported here, so that finding the plugin costs nothing."""
    from kdzoo_seed.strategy import SelfSupervisedDistillation

    return [SelfSupervisedDistillation]
