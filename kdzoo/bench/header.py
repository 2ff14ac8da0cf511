"""What the header of saved weights tells: how the network is made, and what images it expects."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.models.preprocessing import short_numbers
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import plain_arguments


def weights_header(cell: Cell, student: TappedModel, data: LoadedData) -> dict[str, Any]:
    """The header of a cell's weights; docs/models.md describes it.

    Args:
        cell: the cell.
        student: what it trained.
        data: its dataset.
    """
    return {
        "cell": cell.id,
        "classes": data.classes,
        "create_model": plain_arguments(cell.student, cell.data, own_input=cell.starts_pretrained),
        "in_chans": cell.data.channels,
        "input_size": student.input_size,
        "kdzoo": version("kdzoo"),
        "mean": short_numbers(student.mean.flatten().tolist()),
        "std": short_numbers(student.std.flatten().tolist()),
        "strategy": cell.strategy.name,
        # How an original becomes the image that is augmented, and then resized to input_size.
        "crop_mode": "center",
        "crop_pct": data.shown.crop,
        "img_size": cell.data.img_size,
        "interpolation": data.shown.interpolation,
        "margin": data.shown.margin,
    }
