"""Checks of how memory grows: with the samples of a batch, and with the classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.made import Pair
from kdzoo.testing.memory import peak_bytes
from kdzoo.testing.subject import Subject

BATCHES = (64, 128, 256)
CLASSES = (250, 500, 1000)

SAMPLES = 8
"""Of the batches with many classes."""

LEAST = 2.0
"""Bytes for each pair from which on there is a tensor over all pairs; the smallest float has as many."""


def _memory(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    peaks = {size: _peak(subject, pair, size) for size in BATCHES}
    told = f"peak of forward and backward: {_listed(peaks)} samples"
    each = bytes_for_each_pair(peaks)
    if each < LEAST:
        return passed(told)
    return warned(
        f"{told}; it grows with the square of the batch, or faster: about {each:,.0f} bytes for each pair of samples, "
        f"at least {each * 1024**2 / 2**20:,.0f} MiB at 1,024"
    )


def _thousand_classes(subject: Subject) -> Verdict:
    fault = subject.call(subject.pair(classes=CLASSES[-1])).fault
    if fault:
        return failed(f"{fault} with 1,000 classes")
    if not subject.gives_terms:
        return passed(NO_TERMS)
    peaks = {classes: _peak(subject, subject.pair(classes=classes), SAMPLES) for classes in CLASSES}
    told = f"finite; peak {_listed(peaks)} classes at batch {SAMPLES}"
    each = bytes_for_each_pair(peaks)
    if each < LEAST:
        return passed(told)
    return warned(f"{told}; it grows with the square of the classes, or faster: about {each:,.0f} bytes for each pair")


def _peak(subject: Subject, pair: Pair, samples: int) -> int:
    drawn, strategy = subject.draw(pair, samples), subject.build(pair.setup(subject.kind))

    def step() -> None:
        call = subject.call(pair, drawn, strategy=strategy)
        if call.total.requires_grad:
            torch.autograd.backward(call.total)

    return peak_bytes(step)


def _listed(peaks: Mapping[int, int]) -> str:
    return ", ".join(f"{peak / 2**20:.2f} MiB at {size:,}" for size, peak in peaks.items())


def bytes_for_each_pair(peaks: Mapping[int, int]) -> float:
    """The quadratic part of peaks at three sizes, each twice the one before: c in a + b x size + c x size^2."""
    sizes = sorted(peaks)
    first, second, third = (peaks[size] for size in sizes)
    return (third - second - 2 * (second - first)) / (6 * sizes[0] ** 2)


MEMORY = Check(
    name="memory-growth",
    verifies="peak memory of forward and backward, counted at 64, 128 and 256 samples; a warning, with the numbers, "
    "where it has a part that grows with the square of the batch or faster",
    matters="what fits at batch 64 does not at 1,024, where the paper's comparison may have been made",
    mend="a matrix of B x B may be what the method is; make no tensor of B x B x D: use matrix products (`x @ x.T`, "
    "`torch.cdist`), or work in chunks",
    run=_memory,
    needs=("terms",),
)

THOUSAND_CLASSES = Check(
    name="thousand-classes",
    verifies="a thousand classes give finite terms and gradients; a warning where memory grows with the square of the "
    "classes",
    matters="ImageNet has as many: a tensor of B x classes x classes takes a gigabyte at batch 256",
    mend="average over classes, or sum as the paper does and say so; multiply matrices instead of making all products",
    run=_thousand_classes,
    needs=("terms",),
)
