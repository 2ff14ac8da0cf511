"""Datasets by way of torchvision, and where datasets are when nobody says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdzoo.data.dataset import ArrayData
from kdzoo.errors import UsageError

DEFAULT_DIR = Path("data")
"""Where datasets are looked for when no folder is given."""


def from_torchvision(dataset: Any) -> ArrayData:
    """The images that a torchvision dataset holds in ``data`` (N x H x W or N x H x W x C) and their ``targets``."""
    images = np.asarray(dataset.data, dtype=np.uint8)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    targets = np.asarray(dataset.targets, dtype=np.int64)
    # QMNIST tells more of each digit than its class, which comes first.
    labels = targets if targets.ndim == 1 else np.ascontiguousarray(targets[:, 0])
    return ArrayData(np.ascontiguousarray(images), labels)


def load_torchvision(name: str, class_name: str, root: Path, *, download: bool, train: bool) -> Any:
    """A dataset of torchvision's, by the name of its class.

    Raises:
        UsageError: it is missing, damaged, or cannot be downloaded.
    """
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, class_name)
    try:
        return make(root, train=train, download=download)
    except (RuntimeError, OSError) as error:
        # torchvision's word for missing and for damaged files, and for a server that does not answer.
        if download:
            raise UsageError(f"{name} could not be downloaded into {root}: {_line(error)}") from error
        raise UsageError(
            f"{name} was not found in {root}, or is damaged: name the folder that holds torchvision's files with "
            "--data-dir, or add --download to fetch them"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
