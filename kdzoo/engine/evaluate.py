"""Measures a network on a split: exact counts, likelihood, calibration, what the dataset adds, and its guesses."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kdzoo.data.load import LoadedData, Split
from kdzoo.engine.distiller import Deployment, predict
from kdzoo.engine.world import ALONE, World
from kdzoo.errors import NonFiniteLossError
from kdzoo.measures import Scores, image_scores
from kdzoo.outputs import Batch
from kdzoo.refs import DataRef
from kdzoo.strategy import Strategy

ECE_BINS = 15


_CPU_PIXELS, _PIXELS = 2**18, 2**22


def batch_for(data: DataRef, device: torch.device | None = None) -> int:
    """How many images are measured at a time: fewer of large ones, so that no map outgrows those of the training.

    On a CPU larger batches also leave its caches. ``benchmarks/steps.py`` measures it (images per second, one core, in
    batches of 64, 256 and 512): at 64x64 resnet10t 159, 124, 121 and test_resnet 805, 640, 461; at 32x32 resnet10t
    565, 701, 648 and mobilenetv3_small_050 1256, 2547, 2909.

    Args:
        data: gives the size of the images.
        device: where; None bounds the batch by memory alone.
    """
    height, width = data.img_size
    pixels = _CPU_PIXELS if device is not None and device.type == "cpu" else _PIXELS
    return max(16, min(512, pixels // (height * width)))


@dataclass(frozen=True)
class Evaluation:
    """The scores on a split, and the first guess for each of its samples, int64, in the split's order."""

    scores: Scores
    guesses: npt.NDArray[np.int64]


@torch.inference_mode()
def evaluate(
    predict: Callable[[Any], Tensor],
    batches: Iterable[Batch],
    world: World = ALONE,
    *,
    score: Callable[[Tensor, Tensor], Scores] | None = None,
) -> Evaluation:
    """Run a network over a whole split, every sample once.

    Args:
        predict: inputs -> logits, B x classes; its modules are in eval mode.
        batches: the split in its fixed order; of several ranks, each has those that are its turns.
        world: the ranks, which all get the same result.
        score: gives further scores of all logits (N x classes, float64) and labels (N), on the CPU; see
            :meth:`kdzoo.data.dataset.Dataset.score`.

    Raises:
        NonFiniteLossError: the network gives NaN or infinite logits.
    """
    parts: list[Tensor] = []
    guesses: list[Tensor] = []
    answers: list[Tensor] = []
    for batch in batches:
        logits = predict(batch.inputs)
        labels = batch.labels
        if logits.device.type == "mps":  # which has no float64
            logits, labels = logits.cpu(), labels.cpu()
        logits = logits.double()
        parts.append(_sums(logits, labels))
        guesses.append(logits.argmax(dim=1))
        if score is not None:
            answers.append(torch.cat([logits, labels[:, None].double()], dim=1).cpu())
    if world.size > 1:
        parts, guesses, answers = (_in_order(world, own) for own in (parts, guesses, answers))
    if not parts:
        raise ValueError("cannot measure an empty split")
    sums = functools.reduce(torch.add, parts)
    n, strange, first, among_five, nll, *bins = sums.tolist()
    if strange:
        raise NonFiniteLossError("the network's logits are not finite, so it cannot be measured")
    gaps = np.asarray(bins).reshape(ECE_BINS, 2)
    ece = 100 * float(np.abs(gaps[:, 0] - gaps[:, 1]).sum()) / n
    scores = image_scores(int(n), int(first), int(among_five), max(nll / n, 0.0), ece)
    if score is not None:
        together = torch.cat(answers)
        scores |= score(together[:, :-1], together[:, -1].long())
    return Evaluation(scores, torch.cat(guesses).cpu().numpy())


def measure(
    trained: Deployment,
    strategy: Strategy,
    data: LoadedData,
    split: Split,
    device: torch.device,
    world: World = ALONE,
) -> Evaluation:
    """Measure a trained student (with what its strategy deploys) on a split; several ranks share the batches."""
    trained.eval()
    strategy.eval()
    size = batch_for(data.ref, device)
    turns = world.turns(math.ceil(len(data.labels(split)) / size))
    batches = data.eval_batches(split, size, device, only=turns)
    return evaluate(lambda inputs: predict(trained, strategy, inputs), batches, world, score=data.score)


def _in_order(world: World, own: list[Tensor]) -> list[Tensor]:
    """What the ranks have of each batch, in the order of the batches, so that it is summed as one process sums it."""
    everyone = world.collect([each.cpu() for each in own])
    dealt = itertools.chain.from_iterable(itertools.zip_longest(*everyone))
    return [each for each in dealt if each is not None]


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Samples, those with a logit that is not finite, correct at 1, at 5, summed NLL; per bin right and confidence.

    All float64: counts stay exact up to 2^53. A label's rank counts equal logits of lower classes before it, as
    argmax does, so a network that says the same for all classes is not right about every sample.
    """
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & lower)).sum(dim=1)
    nll = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    confidence = logits.softmax(dim=1).amax(dim=1)
    which = (confidence * ECE_BINS).ceil().long().sub(1).clamp(0, ECE_BINS - 1)
    right = (rank == 0).double()
    chosen = torch.nn.functional.one_hot(which, ECE_BINS).double()
    bins = torch.stack([right, confidence], dim=1).T @ chosen
    strange = (~logits.isfinite()).any(dim=1)
    counts = torch.stack([torch.ones_like(right), strange, right, rank < 5]).sum(dim=1)
    return torch.cat([counts, nll[None], bins.T.flatten()])


def agreement(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """How often two networks guess the same class, percent."""
    return 100 * int((a == b).sum()) / len(a)
