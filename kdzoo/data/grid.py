"""A picture of a dataset: for each class, samples as they are and as the augmentation shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from kdzoo.recipe import Augment

if TYPE_CHECKING:
    from kdzoo.data.load import LoadedData

_GAP, _LABEL, _CELL = 4, 110, 64


def image_grid(data: LoadedData, spec: Augment, *, columns: int = 5, most_classes: int = 20) -> Image.Image:
    """One row per class: ``columns`` samples of fit, and the same samples augmented.

    Args:
        data: the dataset.
        spec: the augmentation of the right half.
        columns: samples per class.
        most_classes: the first so many classes are drawn.
    """
    labels = data.labels("fit")
    scale = max(1, _CELL // max(data.ref.img_size))
    height, width = (size * scale for size in data.ref.img_size)
    classes = data.classes[:most_classes]
    right = _LABEL + columns * (width + _GAP) + 3 * _GAP
    picture = Image.new("RGB", (right + columns * (width + _GAP), len(classes) * (height + _GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(classes):
        ids = torch.nonzero(labels == row).flatten()[:columns]
        top = row * (height + _GAP)
        draw.text((_GAP, top + height // 2 - 5), name[:17], fill="black")
        for left, images in ((_LABEL, data.images("fit", ids)), (right, data.images("fit", ids, spec))):
            for column, image in enumerate(images):
                tile = _tile(image).resize((width, height), Image.Resampling.NEAREST)
                picture.paste(tile, (left + column * (width + _GAP), top))
    return picture


def _tile(image: Tensor) -> Image.Image:
    pixels = (image * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))
