"""A dataset that is there at once: noise with one bright quadrant, which is the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdzoo.data.dataset import ArrayData, Dataset, Splits
from kdzoo.data.load import LoadedData, open_data

FIT, HELD_OUT = 48, 16
"""Samples that train, and samples of tune and of test each."""


class BrightQuadrant(Dataset):
    """Four classes of grey images, 16 x 16 pixels."""

    name = "bright-quadrant"
    img_size = (16, 16)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Make the images; nothing is read."""
        draw = np.random.default_rng(11)

        def part(count: int) -> ArrayData:
            labels = np.arange(count, dtype=np.int64) % 4
            images = draw.integers(0, 100, (count, 1, 16, 16), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                row, column = divmod(int(label), 2)
                image[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 120
            return ArrayData(images, labels)

        classes = ("top left", "top right", "bottom left", "bottom right")
        return Splits(part(FIT), part(HELD_OUT), classes, tune=part(HELD_OUT))


def open_quadrants() -> LoadedData:
    """The dataset, ready to train on."""
    return open_data(BrightQuadrant.name, lambda name: BrightQuadrant())
