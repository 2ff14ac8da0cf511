"""Runs a teacher for the bank: in large batches, as it would run in the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.needs import Need, Place
from kdzoo.engine.evaluate import batch_for
from kdzoo.models.teacher import Teacher
from kdzoo.strategy import Outputs, Signal

_BATCH_PIXELS = 2**17
"""Pixels of a batch on a CPU: larger ones leave its caches (ResNet-50 at 32x32: 102 images/s in batches of 128, 66 in
batches of 512, one core)."""
_LEAST = 32
"""Fewer samples are filled up to as many: for small batches a CPU has other kernels, which round otherwise."""


def pass_batch(data: LoadedData, device: torch.device) -> int:
    """How many samples the teacher sees at a time: a power of two."""
    height, width = data.ref.img_size
    most = batch_for(data.ref)
    if device.type == "cpu":
        most = min(most, max(_LEAST, _BATCH_PIXELS // (height * width)))
    return int(2 ** (most.bit_length() - 1))


@dataclass(frozen=True)
class Runner:
    """A teacher, and the context in which it runs.

    Args:
        teacher: frozen, on its device.
        autocast: gives the context.
    """

    teacher: Teacher
    autocast: Callable[[], AbstractContextManager[object]]

    @property
    def device(self) -> torch.device:
        """Where the teacher runs."""
        return next(self.teacher.parameters()).device

    def run(self, images: Tensor, signals: frozenset[Signal]) -> Outputs:
        """The teacher's signals."""
        with self.autocast():
            outputs: Outputs = self.teacher(images, signals)
        return outputs

    @torch.inference_mode()
    def make(self, images: Tensor, makers: dict[str, tuple[Need, Place]], least: int) -> dict[str, Tensor]:
        """What is kept of some images.

        Args:
            images: B x C x H x W.
            makers: key of an entry -> the need whose reduction gives it, and where that puts it.
            least: samples of the smallest batch that the teacher is given, at most 32.

        Returns:
            B rows for each key, reduced and not yet rounded.
        """
        count = len(images)
        if short := max(0, min(least, _LEAST) - count):
            images = torch.cat([images, images[-1:].expand(short, *images.shape[1:])])
        signals = frozenset[Signal]().union(*(need.signals for need, _ in makers.values()))
        raw = self.run(images, signals)
        made: dict[int, Outputs] = {}
        found = {}
        for key, (need, place) in makers.items():
            if id(need) not in made:
                with self.autocast():
                    made[id(need)] = need.reduced(only(raw, need.signals))
            value = made[id(need)].values[place.name]
            found[key] = (value if place.position is None else value[place.position])[:count]
        return found


def only(outputs: Outputs, signals: frozenset[Signal]) -> Outputs:
    """The named signals."""
    return Outputs({name: value for name, value in outputs.values.items() if name in signals})
