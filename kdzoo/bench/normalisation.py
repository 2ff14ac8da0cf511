"""Whether a network would be right far more often if its images were normalised by other numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from kdzoo.bench.guess_tests import CHANCE_P, Classes, sign_test, wins
from kdzoo.data.load import LoadedData
from kdzoo.engine.evaluate import batch_for
from kdzoo.models.teacher import Teacher
from kdzoo.models.zoo import timm_normalisation
from kdzoo.refs import ModelRef

MOST_SAMPLES = 1024
"""Samples of tune on which other numbers are tried."""

LEAST_GAIN = 5.0
"""Points of accuracy that other numbers must bring."""

_ALIKE = 0.02
"""Numbers that differ by no more than this show a network the same."""

Normalisation: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for images in [0, 1]."""


@dataclass(frozen=True)
class Renormalisation:
    """Other numbers, by which a network is right more often.

    Args:
        mean: as ``--teacher-input`` takes it.
        std: likewise.
        samples: how many were tried.
        before: how often it is right as it is, percent.
        after: how often it would be right, percent.
    """

    mean: str
    std: str
    samples: int
    before: float
    after: float


@torch.inference_mode()
def find_normalisation(
    teacher: Teacher, ref: ModelRef, data: LoadedData, guesses: Classes, device: torch.device
) -> Renormalisation | None:
    """The plain normalisation by which a network is right far more often on tune than it is; None where there is none.

    Tried are the dataset's own, ImageNet's, 0.5, none at all, and that of timm's weights of the model. The best of
    them must be right in :data:`LEAST_GAIN` points more of the samples, and of the samples that only one of the two
    gets right it must have more than chance allows (sign test, :data:`CHANCE_P` over the number of those tried).

    Args:
        teacher: the network as it is shown images now.
        ref: its name.
        data: the dataset.
        guesses: of the network on all of tune.
        device: where it is.
    """
    others = _others(teacher, ref, data)
    labels = data.labels("tune").numpy()
    size = min(64, batch_for(data.ref, device))
    batches = math.ceil(len(labels) / size)
    # Spread over the split, which may be in the order of the classes.
    only = sorted({round(place) for place in np.linspace(0, batches - 1, max(1, MOST_SAMPLES // size))})
    index: list[Tensor] = []
    found: list[list[Tensor]] = [[] for _ in others]
    for batch in data.eval_batches("tune", size, device, only=only):
        index.append(batch.index)
        for other, parts in zip(others, found, strict=True):
            logits = teacher(_shown(batch.inputs, teacher, other), {"logits"}).logits
            parts.append(logits.argmax(dim=1))
    chosen = torch.cat(index).cpu().numpy()
    before = guesses[chosen] == labels[chosen]
    hits = [torch.cat(parts).cpu().numpy() == labels[chosen] for parts in found]
    best = max(range(len(others)), key=lambda place: int(hits[place].sum()), default=None)
    if best is None:
        return None
    after = hits[best]
    won, lost = wins(after, before), wins(before, after)
    gain = 100 * (won - lost) / len(chosen)
    if gain < LEAST_GAIN or sign_test(won, lost) > CHANCE_P / len(others):
        return None
    mean, std = (_text(values) for values in others[best])
    return Renormalisation(mean, std, len(chosen), 100 * float(before.mean()), 100 * float(after.mean()))


def _others(teacher: Teacher, ref: ModelRef, data: LoadedData) -> list[Normalisation]:
    """The normalisations that are tried, without that which is used and without repetition."""
    channels = data.ref.channels
    imagenet = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    if channels != len(IMAGENET_DEFAULT_MEAN):
        imagenet = tuple((sum(values) / len(values),) * channels for values in imagenet)  # type: ignore[assignment]
    plain = [((mean,) * channels, (std,) * channels) for mean, std in ((0.5, 0.5), (0.0, 1.0))]
    kept: list[Normalisation] = [_used(teacher)]
    for one in [(data.mean, data.std), imagenet, *plain, timm_normalisation(ref, channels)]:
        if not any(_alike(one, other) for other in kept):
            kept.append(one)
    return kept[1:]


def _used(teacher: Teacher) -> Normalisation:
    mean, std = (tuple(values.flatten().tolist()) for values in (teacher.model.mean, teacher.model.std))
    return mean, std


def _alike(one: Normalisation, other: Normalisation) -> bool:
    return np.allclose(np.array(one), np.array(other), rtol=0, atol=_ALIKE)


def _shown(images: Tensor, teacher: Teacher, other: Normalisation) -> Tensor:
    """Images that the network's own normalisation makes what the other one would have made of the given ones.

    Bringing them to another size between the two changes nothing: each new pixel is a mean of old ones.
    """
    mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in other)
    return (images - mean) / std * teacher.model.std + teacher.model.mean


def _text(values: Sequence[float]) -> str:
    """One number where all channels have the same, else one for each."""
    texts = [f"{value:.3g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)
