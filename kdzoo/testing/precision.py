"""Checks of precision and memory."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.degenerate import DEGENERATE
from kdzoo.testing.growth import MEMORY
from kdzoo.testing.losses import halved
from kdzoo.testing.made import Drawn, Pair
from kdzoo.testing.subject import Subject
from kdzoo.testing.wide import WideFloats

LOOSE = 1e-3
"""Share of a term, and of the gradient's norm, by which float32 may differ from float64."""

OTHER_NUMBERS = "it draws random numbers, which differ between the two precisions"


def _float64(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair, worst = subject.pair(), 0.0
    for seed in range(2):
        drawn = subject.draw(pair, seed=seed)
        narrow, wide = subject.call(pair, drawn), _in_float64(subject, drawn)
        for name, value in wide.values.items():
            error = abs(narrow.values.get(name, math.nan) - value) / max(abs(value), 1e-6)
            worst = max(worst, error)
            # The comparison is false for NaN.
            if not error <= LOOSE:
                if subject.draws:
                    return skipped(OTHER_NUMBERS)
                told = narrow.values.get(name, math.nan)
                return failed(f"{name} is {told:.8g} in float32 and {value:.8g} in float64")
        error = _gradient_error(narrow, wide)
        if not error <= LOOSE:
            if subject.draws:
                return skipped(OTHER_NUMBERS)
            return failed(f"the gradients in float32 and float64 differ by {error:.2g} of their norm")
        worst = max(worst, error)
    return passed(f"largest relative difference {worst:.2g}")


def _in_float64(subject: Subject, drawn: Drawn) -> Call:
    strategy = subject.build(subject.pair().setup(subject.kind)).double()
    return subject.call(drawn=drawn.map(lambda x: x.double()), strategy=strategy, precision=WideFloats())


def _gradient_error(narrow: Call, wide: Call) -> float:
    one, two = (torch.cat([part.double().flatten() for part in call.gradients()]) for call in (narrow, wide))
    return float((one - two).norm() / two.norm().clamp(min=1e-12))


def _bf16(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    twins = pair.twins()
    usual = subject.moment.scale
    for scale in (usual, 20.0, 0.01):
        if told := _dies(subject, pair, subject.draw(pair, seed=1, scale=scale)):
            return failed(told + ("" if scale == usual else f", on features of {scale:g} times the usual size"))
    if told := _dies(subject, twins, _nearly_equal(subject, twins)):
        return failed(f"{told}, where the student nearly equals the teacher")
    found = []
    for name, value in subject.call(drawn=halved(subject), precision=_autocast()).values.items():
        full = subject.usual.values.get(name, math.nan)
        found.append(f"{name} {100 * abs(value - full) / max(abs(full), 1e-6):.2g}%")
    return passed(f"difference from float32: {', '.join(found)}")


def _fp16(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    for scale in (subject.moment.scale, 20.0):
        drawn = subject.draw(pair, seed=1, scale=scale)
        half = replace(drawn.map(lambda x: x.half()), batch=drawn.batch)
        call = subject.call(pair, half, precision=torch.autocast("cpu", dtype=torch.float16))
        full = subject.call(pair, drawn)
        for name, value in call.values.items():
            if not math.isfinite(value) and math.isfinite(full.values.get(name, math.nan)):
                where = "" if scale == subject.moment.scale else f", on features of {scale:g} times the usual size"
                return failed(f"under float16 autocast {name} is {value}{where}")
    return passed("finite, on usual and on large signals")


def _dies(subject: Subject, pair: Pair, drawn: Drawn) -> str:
    """What is not finite in bfloat16 though it is in float32; empty where nothing is."""
    half = drawn.map(lambda x: x.bfloat16())
    told = subject.call(pair, replace(half, batch=drawn.batch), precision=_autocast()).fault
    return f"under bfloat16 autocast {told}" if told and not subject.call(pair, drawn).fault else ""


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def _nearly_equal(subject: Subject, pair: Pair) -> Drawn:
    """What float32 tells apart is the same in bfloat16 here."""
    drawn, noise = subject.draw(pair), torch.Generator().manual_seed(0)
    student = drawn.teacher.map(lambda x: x + 1e-4 * x.abs() * torch.randn(x.shape, generator=noise))
    return replace(drawn, student=student)


PRECISION = (
    Check(
        name="float64",
        verifies="terms and gradients in float32 agree with those in float64 within a thousandth",
        matters="a difference of nearly equal numbers loses its digits: the loss looks right and its gradient is noise",
        mend="use `log_softmax` and `logsumexp`; centre before squaring; compute what cancels in float64",
        run=_float64,
        needs=("terms", "repeatable", "registered"),
    ),
    Check(
        name="bf16",
        verifies="under bfloat16 autocast terms and gradients are finite, on small, usual and large signals and where "
        "the student nearly equals the teacher, if they are so in float32",
        matters="a loss that dies in half precision ends the training of everybody with a GPU",
        mend="convert signals with `.float()` before `exp`, `log`, `sqrt` and divisions; put an epsilon under the root",
        run=_bf16,
        needs=("terms",),
    ),
    Check(
        name="fp16",
        verifies="under float16 autocast terms are finite, on usual and on large signals, if they are so in float32",
        matters="float16 ends at 65,504, which is less than exp(12): such a loss ends the training of a recipe in fp16",
        mend="convert signals with `.float()` before `exp`, squares and sums; use `log_softmax` and `logsumexp`",
        run=_fp16,
        needs=("terms",),
    ),
    DEGENERATE,
    MEMORY,
)
"""In the order in which they run."""
