"""An estimate of the memory that a training needs, made before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kdzoo.cell import DataRef
from kdzoo.declarations import Signature, rows_of_sample, student_signals
from kdzoo.engine.distiller import Distiller
from kdzoo.recipe import Recipe

_MOMENTS = 2
"""Values that an optimizer keeps of a parameter: SGD keeps one, Adam two."""
_SAMPLES = 2
_FLOAT = 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training needs.

    Args:
        kept: from its beginning to its end.
        passing: during a step, or while a checkpoint is written.
    """

    kept: int
    passing: int


def estimate_memory(distiller: Distiller, teacher: Signature | None, recipe: Recipe, data: DataRef) -> MemoryEstimate:
    """Estimate what a training needs, by a forward pass over two images.

    Args:
        distiller: student and strategy, on the CPU.
        teacher: the shapes of its signals, for those of one batch; None without a teacher.
        recipe: batch size and moving average.
        data: size of the images.
    """
    trained = _bytes(parameter for parameter in distiller.parameters() if parameter.requires_grad)
    weights = _bytes([*distiller.parameters(), *distiller.buffers()])
    averaged = _bytes(distiller.student.parameters()) if recipe.ema else 0
    kept = weights + _MOMENTS * trained + averaged
    batch = recipe.batch_size * rows_of_sample(distiller.strategy)
    signals = _FLOAT * batch * _values(teacher) if teacher else 0
    step = trained + batch * _saved_bytes(distiller, data) // _SAMPLES + signals
    return MemoryEstimate(kept, max(step, kept))


def _values(signature: Signature) -> int:
    """Numbers in all signals of one sample."""
    maps = sum(stage.channels * stage.height * stage.width for stage in signature.stages)
    return maps + signature.embedding + signature.num_classes


def _saved_bytes(distiller: Distiller, data: DataRef) -> int:
    """What a forward pass over two images leaves for the backward pass, beside the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in distiller.parameters()}
    # Held here, so that no storage is freed and its place counted for another one.
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            found[place] = tensor
        return tensor

    images = torch.zeros(_SAMPLES, data.channels, *data.img_size)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        distiller.student(images, student_signals(distiller.strategy))
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
