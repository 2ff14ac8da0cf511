"""Checks of precision, of memory layouts, and of features that carry nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kdzoo.testing.checks.loss import halved
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped
from kdzoo.testing.kit.instruments import both_give_logits, difference, fault_of, on_logits
from kdzoo.testing.kit.networks import NetworkPair
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS, Call, Change, Drawn, Features

_LOOSE = 1e-3
"""Share of a term, and of the gradient's norm, by which float32 may differ from float64."""

_OTHER_NUMBERS = "it draws random numbers, which differ between the two precisions"


def _float64(subject: Subject) -> CheckResult:
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
            if not error <= _LOOSE:
                if subject.draws:
                    return skipped(_OTHER_NUMBERS)
                value32 = narrow.values.get(name, math.nan)
                return failed(f"{name} is {value32:.8g} in float32 and {value:.8g} in float64")
        error = _gradient_error(narrow, wide)
        if not error <= _LOOSE:
            if subject.draws:
                return skipped(_OTHER_NUMBERS)
            return failed(f"the gradients in float32 and float64 differ by {error:.2g} of their norm")
        worst = max(worst, error)
    return passed(f"largest relative difference {worst:.2g}")


def _in_float64(subject: Subject, drawn: Drawn) -> Call:
    strategy = subject.build(subject.pair().setup(subject.kind)).double()
    return subject.call(drawn=drawn.map(lambda x: x.double()), strategy=strategy, precision=WideFloats())


def _gradient_error(narrow: Call, wide: Call) -> float:
    one, two = (torch.cat([part.double().flatten() for part in call.gradients()]) for call in (narrow, wide))
    return float((one - two).norm() / two.norm().clamp(min=1e-12))


def _bf16(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    twins = pair.twins()
    usual = subject.moment.scale
    for scale in (usual, 20.0, 0.01):
        if message := _dies(subject, pair, subject.draw(pair, seed=1, scale=scale)):
            return failed(message + ("" if scale == usual else f", on features of {scale:g} times the usual size"))
    if message := _dies(subject, twins, _nearly_equal(subject, twins)):
        return failed(f"{message}, where the student nearly equals the teacher")
    found = []
    for name, value in subject.call(drawn=halved(subject), precision=_autocast()).values.items():
        full = subject.usual.values.get(name, math.nan)
        found.append(f"{name} {100 * abs(value - full) / max(abs(full), 1e-6):.2g}%")
    return passed(f"difference from float32: {', '.join(found)}")


def _fp16(subject: Subject) -> CheckResult:
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


def _dies(subject: Subject, pair: NetworkPair, drawn: Drawn) -> str:
    """What is not finite in bfloat16 though it is in float32; empty where nothing is."""
    half = drawn.map(lambda x: x.bfloat16())
    message = subject.call(pair, replace(half, batch=drawn.batch), precision=_autocast()).fault
    return f"under bfloat16 autocast {message}" if message and not subject.call(pair, drawn).fault else ""


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def _nearly_equal(subject: Subject, pair: NetworkPair) -> Drawn:
    """What float32 tells apart is the same in bfloat16 here."""
    drawn, noise = subject.draw(pair), torch.Generator().manual_seed(0)
    student = drawn.teacher.map(lambda x: x + 1e-4 * x.abs() * torch.randn(x.shape, generator=noise))
    return replace(drawn, student=student)


_NARROW = (torch.float32, torch.bfloat16, torch.float16)


class WideFloats(TorchFunctionMode):
    """Inside it, ``x.float()``, ``x.to(torch.float32)`` and ``dtype=torch.float32`` mean float64.

    Without it, a strategy that computes in float32 whatever it is given, as it should, could not be compared with a
    more precise run of itself.
    """

    def __enter__(self) -> Self:
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        torch.set_default_dtype(self._default)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function with wider types."""
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        return func(*map(_wider, args), **{name: _wider(value) for name, value in (kwargs or {}).items()})


def _wider(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def _degenerate(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    for where, drawn in _cases(subject.draw(pair)):
        if fault := subject.call(pair, drawn).fault:
            return failed(f"{fault} {where}")
    drawn = subject.draw(pair)
    for who, logits in _flat(pair, len(drawn.batch.labels)):
        if both_give_logits(subject) and (fault := fault_of(*on_logits(subject, pair, drawn, *logits))):
            return failed(f"{fault} where {who} logits are all equal, as those of a network that cannot tell")
    twins = pair.twins()
    drawn = subject.draw(twins)
    if fault := subject.call(twins, replace(drawn, student=drawn.teacher)).fault:
        return failed(f"{fault} where the student equals the teacher")
    return passed("finite with features of 0, alike samples, constant maps, equal logits and equal networks")


def _flat(pair: NetworkPair, rows: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Logits of both networks, of which one network's, or both, give every class the same in the first sample."""
    draw = torch.Generator().manual_seed(9)
    usual = [torch.randn(rows, pair.student.num_classes, generator=draw) for _ in range(2)]
    flat = [torch.cat([torch.full_like(each[:1], 0.25), each[1:]]) for each in usual]
    yield "a student's", (flat[0], usual[1])
    yield "a teacher's", (usual[0], flat[1])
    yield "both networks'", (flat[0], flat[1])


def _cases(drawn: Drawn) -> Iterator[tuple[str, Drawn]]:
    for what, change in (
        ("features of a sample are all 0", _dead),
        ("maps are constant", _constant),
        ("features of all samples are alike", _alike),
    ):
        student, teacher = change(drawn.student), change(drawn.teacher)
        yield f"where the student's {what}", replace(drawn, student=student)
        yield f"where the teacher's {what}", replace(drawn, teacher=teacher)
        yield f"where both networks' {what}", replace(drawn, student=student, teacher=teacher)


def _dead(features: Features) -> Features:
    """Nothing is seen in the first sample, as behind ReLUs that are all shut."""

    def first_row_off(x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:1]), x[1:]])

    return features.map(first_row_off)


def _alike(features: Features) -> Features:
    """Every sample of the batch is the same to the network."""
    return features.map(lambda x: x[:1].expand_as(x).contiguous())


def _constant(features: Features) -> Features:
    """Each channel has one value in the whole map."""
    stages = tuple(stage[..., :1, :1].expand_as(stage).contiguous() for stage in features.stages)
    return Features(stages, features.free)


def _strided(x: Tensor) -> Tensor:
    """The same values with a gap after each row."""
    return torch.cat([x, x[..., :1]], dim=-1)[..., :-1]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _layout(change: Change, where: str) -> Callable[[Subject], CheckResult]:
    """A check that another memory layout of the same values gives the same terms."""

    def run(subject: Subject) -> CheckResult:
        if not subject.gives_terms:
            return skipped(NO_TERMS)
        pair = subject.pair()
        drawn = subject.draw(pair)
        message = difference(
            lambda seed: subject.call(pair, drawn, seed=seed).values,
            lambda seed: subject.call(pair, drawn.map(change), seed=seed).values,
            relative=1e-4,
            draws=subject.draws,
        )
        return failed(f"from contiguous and from {where} signals {message}") if message else passed("the same terms")

    return run


FLOAT64 = Check(
    name="float64",
    verifies="terms and gradients in float32 agree with those in float64 within a thousandth",
    matters="a difference of nearly equal numbers loses precision: the loss looks right, but its gradient is noise",
    mend="use `log_softmax` and `logsumexp`; centre before squaring; compute differences that cancel in float64",
    run=_float64,
    needs=("terms", "repeatable", "registered"),
)


BF16 = Check(
    name="bf16",
    verifies="under bfloat16 autocast terms and gradients are finite, on small, usual and large signals and where "
    "the student nearly equals the teacher, if they are so in float32",
    matters="a loss that fails in half precision stops most trainings on GPUs",
    mend="convert signals with `.float()` before `exp`, `log`, `sqrt` and divisions; put an epsilon under the root",
    run=_bf16,
    needs=("terms",),
)


FP16 = Check(
    name="fp16",
    verifies="under float16 autocast terms are finite, on usual and on large signals, if they are so in float32",
    matters="float16 ends at 65,504, which is less than exp(12): such a loss ends the training of a recipe in fp16",
    mend="convert signals with `.float()` before `exp`, squares and sums; use `log_softmax` and `logsumexp`",
    run=_fp16,
    needs=("terms",),
)


DEGENERATE = Check(
    name="degenerate",
    verifies="a sample whose features are all 0, maps of constant channels, a batch of samples that are alike, logits "
    "that are the same for all classes, and a student equal to its teacher give finite terms and gradients",
    matters="after a ReLU whole channels and samples are 0, and one division by a norm of 0 ruins the training",
    mend="use `F.normalize`, or `x.norm(...).clamp(min=eps)`; put an epsilon under a root, because its gradient "
    "at 0 is infinite, also in a standard deviation: `(x.var(dim) + eps).sqrt()`",
    run=_degenerate,
    needs=("terms",),
)


NON_CONTIGUOUS = Check(
    name="non-contiguous",
    verifies="non-contiguous signals give the same terms as contiguous signals",
    matters="`view` refuses them, and reading raw memory mixes up elements",
    mend="use `flatten` or `reshape` instead of `view`",
    run=_layout(_strided, "non-contiguous"),
    needs=("terms", "repeatable"),
)


CHANNELS_LAST = Check(
    name="channels-last",
    verifies="maps in channels_last order give the same terms as contiguous maps",
    matters="kdzoo's teachers and fast recipes give such maps",
    mend="use `flatten` or `reshape` instead of `view`, and name dimensions instead of strides",
    run=_layout(_channels_last, "channels_last"),
    needs=("terms", "repeatable"),
)
