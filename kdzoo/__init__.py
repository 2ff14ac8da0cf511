"""kdzoo: a plugin-based zoo of knowledge-distillation strategies with a benchmark harness.

The names listed here are the public interface that plugin authors use; ``API_VERSION`` is its version, and
``docs/api.md`` says what is stable. They are imported on first use, so that ``import kdzoo`` (and with it the command
line) starts without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdzoo.api import API_VERSION
    from kdzoo.cell import Cell
    from kdzoo.data.dataset import ArrayData, Dataset, FileData, Splits
    from kdzoo.declarations import Paper, Phase, Signature, StageShape
    from kdzoo.errors import KdzooError, PairError, UsageError
    from kdzoo.measures import Measure
    from kdzoo.outputs import Backward, Batch, Classifier, Outputs, PreActivation, Setup
    from kdzoo.parameters import Param, param
    from kdzoo.plugins import hookimpl
    from kdzoo.recipe import Recipe
    from kdzoo.record import Record
    from kdzoo.record_parts import Epoch
    from kdzoo.strategy import Strategy, Terms

_HOMES = {
    "kdzoo.api": ("API_VERSION",),
    "kdzoo.cell": ("Cell",),
    "kdzoo.errors": ("KdzooError", "PairError", "UsageError"),
    "kdzoo.declarations": ("Paper", "Signature", "StageShape"),
    "kdzoo.measures": ("Measure",),
    "kdzoo.outputs": ("Backward", "Batch", "Classifier", "Outputs", "PreActivation", "Setup"),
    "kdzoo.parameters": ("Param", "param"),
    "kdzoo.plugins": ("hookimpl",),
    "kdzoo.recipe": ("Recipe",),
    "kdzoo.record": ("Epoch", "Record"),
    "kdzoo.strategy": ("Phase", "Strategy", "Terms"),
    "kdzoo.data.dataset": ("ArrayData", "Dataset", "FileData", "Splits"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "API_VERSION",
    "ArrayData",
    "Backward",
    "Batch",
    "Cell",
    "Classifier",
    "Dataset",
    "Epoch",
    "FileData",
    "KdzooError",
    "Measure",
    "Outputs",
    "PairError",
    "Paper",
    "Param",
    "Phase",
    "PreActivation",
    "Recipe",
    "Record",
    "Setup",
    "Signature",
    "Splits",
    "StageShape",
    "Strategy",
    "Terms",
    "UsageError",
    "__version__",
    "hookimpl",
    "param",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("kdzoo")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'kdzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
