"""A short run of a teacher, by which shapes, types and time are found out before anything is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.needs import Need, Place, tensors_of
from kdzoo.engine.bank.runner import Runner, only
from kdzoo.engine.bank.spec import BYTES, Entry, Pass, kept_dtype
from kdzoo.errors import KdzooError
from kdzoo.strategy import Classifier, Outputs

_PIXELS = 2**19
_SAMPLES = 32
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Reader:
    """What serves a need.

    Args:
        need: the need.
        places: the entries, by their places in what the strategy gets.
        constants: what it gets beside them, the same for every sample.
        wide: keys of entries with values that do not fit into the type in which they would be kept.
    """

    need: Need
    places: tuple[tuple[Place, Entry], ...]
    constants: Mapping[str, Classifier]
    wide: frozenset[str] = frozenset()

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Under which numbers its views are kept, in the order in which the epochs show them."""
        return tuple(place.owner.number(view) for _, place in self.places[:1] for view in self.need.views)

    @property
    def keys(self) -> frozenset[str]:
        """Of the entries."""
        return frozenset(entry.key for _, entry in self.places)

    @cached_property
    def views(self) -> frozenset[tuple[str, int]]:
        """Keys of entries, each with the number of a view that is read."""
        return frozenset((key, number) for key in self.keys for number in self.numbers)


class Probe:
    """A few samples of one view, as the teacher sees them.

    Args:
        owner: the pass.
        data: the dataset.
        runner: runs the teacher.
        dtype: in which embeddings and stages are to be kept.
    """

    def __init__(self, owner: Pass, data: LoadedData, runner: Runner, dtype: str) -> None:
        self.owner, self.runner, self.dtype = owner, runner, dtype
        height, width = data.ref.img_size
        self.samples = min(max(2, _PIXELS // (height * width)), _SAMPLES, data.ref.fit)
        images = data.images("fit", torch.arange(self.samples), owner.augment)
        self._images = images.to(runner.device)
        self._outputs = runner.run(self._images, frozenset({"logits", "stages", "embedding"}))

    @cached_property
    def seconds(self) -> float:
        """Of the teacher's pass over one sample."""
        began = time.perf_counter()
        self.runner.run(self._images, frozenset({"logits", "stages", "embedding"}))
        if self._images.device.type == "cuda":
            torch.cuda.synchronize(self._images.device)
        return (time.perf_counter() - began) / self.samples

    def read(self, need: Need) -> Reader:
        """Find out which entries serve a need.

        Raises:
            KdzooError: the strategy's ``reduce`` breaks the contract.
        """
        values: dict[str, Any] = dict(self._outputs.values)
        if "classifier" in need.signals:
            values["classifier"] = self.runner.teacher.classifier()
        places, wide = [], set()
        with torch.no_grad(), self.runner.autocast():
            reduced = need.reduced(only(Outputs(values), need.signals))
            for place, text, tensor in tensors_of(reduced, need):
                entry = self._entry(need, place, text, tensor)
                places.append((place, entry))
                if overflows(tensor, entry.kept):
                    wide.add(entry.key)
        constants = {name: value for name, value in reduced.values.items() if isinstance(value, Classifier)}
        return Reader(need, tuple(places), constants, frozenset(wide))

    def _entry(self, need: Need, place: Place, text: str, tensor: Tensor) -> Entry:
        given = str(tensor.dtype).removeprefix("torch.")
        if len(tensor) != self.samples or not tensor.numel() or given not in BYTES:
            raise KdzooError(
                f"{need.strategy}.reduce gives {place.name!r} as {given} of shape {tuple(tensor.shape)} for "
                f"{self.samples} samples: give one row per sample"
            )
        return Entry(self.owner, text, tuple(tensor.shape[1:]), given, kept_dtype(text, given, self.dtype))


def overflows(rows: Tensor, dtype: str) -> bool:
    """Whether a finite value becomes infinite in a type."""
    if dtype != "float16" or rows.dtype == torch.float16:
        return False
    # One look at the values is enough for most: only NaN, infinities and large values need the closer one.
    least, most = rows.aminmax()
    if bool((least >= -_LARGEST) & (most <= _LARGEST)):
        return False
    return bool((rows.to(torch.float16).isinf() & rows.isfinite()).any())
