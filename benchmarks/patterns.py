"""A plugin for benchmarks: images that any network learns within an epoch, as many and as large as a run needs.

Each class has a smooth random picture; a sample is its class's picture under noise. What networks score on it says
nothing; that a teacher is above chance lets it teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdzoo import ArrayData, Dataset, Splits, hookimpl

CLASSES, SIZE, TEST = 10, 32, 500


class Patterns(Dataset):
    """Colour images of 32 x 32 pixels in ten classes; of the ``count`` for training, tune takes a tenth."""

    img_size = (SIZE, SIZE)

    def __init__(self, count: int) -> None:
        self.name = f"patterns{count}"
        self.count = count

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Draw them; the same each time."""
        draw = np.random.default_rng(0)
        coarse = draw.normal(size=(CLASSES, 3, 4, 4))
        pictures = np.kron(coarse, np.ones((1, 1, SIZE // 4, SIZE // 4)))

        def split(count: int) -> ArrayData:
            labels = np.arange(count, dtype=np.int64) % CLASSES
            images = 128 + 40 * pictures[labels] + 30 * draw.normal(size=(count, 3, SIZE, SIZE))
            return ArrayData(np.clip(images, 0, 255).astype(np.uint8), labels)

        return Splits(split(self.count), split(TEST), tuple(f"c{number}" for number in range(CLASSES)))


@hookimpl
def kdzoo_datasets() -> Sequence[Dataset]:
    """Sets of several sizes."""
    return [Patterns(count) for count in (640, 1280, 2560, 5120, 10240)]
