"""The check that the code does what the equation in the docstring says, as far as that can be read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kdzoo.combination import parts_of
from kdzoo.strategy import Strategy
from kdzoo.testing.checks.card import card_text, class_texts
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped
from kdzoo.testing.kit.instruments import both_give_logits, on_logits, sizes_of
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS

_EQUATIONS = re.compile(r"^[ \t]*(?:Loss|Equation)\b[^:\n]*:(.*?)(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)

_SQUARE = re.compile(
    r"(?:\bT|\btau|τ|\btemperature)\s*(?:\^|\*\*)\s*2|T²|τ²|\bT \* T\b"
    r"|\bsquare of the temperature|\bsquared temperature",
    re.IGNORECASE,
)

_DENIED = re.compile(r"\b(?:no|not|without|omit\w*|left out|lea\w+ out|missing)\b", re.IGNORECASE)

_DIVERGENCE = re.compile(r"\bKL\b|batchmean|sum_c|sum over (?:the )?classes")

_HARD = re.compile(
    r"^\s*(?P<weight>\(1 - \w+\)|\w+|\d+(?:\.\d+)?)?\s*\*?\s*\b(?:CE|cross-entropy)\b"
    r"(?:\((?P<of>[^()]*)\))?\s*(?=\+|$)",
)

_LABELS = re.compile(r"\blabels?\b|\by\b|\btargets?\b|\btruth\b")

_HOT = (8.0, 16.0, 32.0)
"""Temperatures at which the gradient of a divergence has its limit."""


def _equation(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    said = equations(subject)
    looked = list[str]()
    for look in (_hard_weight, _square, _classes):
        wrong, held = look(subject, said)
        if wrong:
            return failed(wrong)
        looked += [held] if held else []
    if not looked:
        return skipped("nothing that can be tested is read in the equation")
    return passed("as the equation says: " + ", ".join(looked))


def equations(subject: Subject) -> list[str]:
    """What follows ``Loss:`` or ``Equation:``, to the end of the paragraph.

    Of the class that is nearest to the strategy; where no class has an equation, those of the functions that it uses.
    """
    return [one for kind in parts_of(subject.kind) for one in _equations(kind)]


def _equations(kind: type[Strategy]) -> list[str]:
    for text in (*class_texts(kind), card_text(kind)):
        if found := [" ".join(each[1].split()) for each in _EQUATIONS.finditer(text)]:
            return found
    return []


def _hard_weight(subject: Subject, said: list[str]) -> tuple[str, str]:
    """Whether the weight of the hard-label loss is what stands before CE."""
    if len(parts_of(subject.kind)) > 1:
        return "", ""
    found = next(filter(None, (_HARD.match(one) for one in said)), None)
    if found is None or (found["of"] is not None and not _LABELS.search(found["of"])):
        return "", ""
    wanted = _weight(found["weight"], {**subject.kind.resolve(subject.params)})
    weight = float(subject.usual.strategy.ce_weight)
    phases = [phase.hard_labels for phase, _ in subject.usual.phases]
    if wanted is None or not any(phases):
        return "", ""
    before = f"{found['weight'] or ''} CE".strip()
    if abs(wanted - weight) > 1e-6 * max(abs(wanted), abs(weight)):
        return (
            f"the equation has {before!r}, which is {wanted:g} times the hard-label loss, and ce_weight is {weight:g}",
            "",
        )
    return "", f"{before} with ce_weight {weight:g}"


def _weight(text: str | None, values: Mapping[str, Any]) -> float | None:
    """The number that stands before CE; None where it cannot be read."""
    if text is None:
        return 1.0
    name = text.removeprefix("(1 - ").removesuffix(")")
    value = values.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 1.0 - value if text != name else float(value)
    try:
        return float(text)
    except ValueError:
        return None


def _square(subject: Subject, said: list[str]) -> tuple[str, str]:
    """Whether a gradient that falls with the square of the temperature is multiplied by it."""
    sentences = [part for one in said for part in re.split(r"[.;] ", one)]
    if not both_give_logits(subject) or not any(_SQUARE.search(one) and not _DENIED.search(one) for one in sentences):
        return "", ""
    for name in _temperatures(subject):
        message = list[str]()
        for term, sizes in _sizes(subject, name).items():
            early, late = (later / earlier for earlier, later in pairwise(sizes))
            if late < 0.35 and early < 0.45:
                return (
                    f"the equation has the square of the temperature, but the gradient of {term} falls to "
                    f"{late:.2g} of it where {name} is doubled: a factor {name}**2 is missing, or is a constant",
                    "",
                )
            message.append(f"{term} changes {late:.2f} times")
        if message:
            return "", f"{name} squared ({', '.join(message)} in the gradient from {_HOT[-2]:g} to {_HOT[-1]:g})"
    return "", ""


def _temperatures(subject: Subject) -> Iterator[str]:
    """The parameters that are called a temperature, and may be as high."""
    for name, spec in subject.kind.hyperparameters().items():
        short = name.rpartition(".")[2].lower()
        if spec.type is float and ("temp" in short or short in {"t", "tau"}):
            bounds = [bound for bound in (spec.le, spec.lt) if bound is not None]
            if not bounds or min(bounds) > _HOT[-1]:
                yield name


def _sizes(subject: Subject, name: str) -> dict[str, list[float]]:
    """The norm of each term's gradient in the student's logits at each temperature."""
    found = dict[str, list[float]]()
    for temperature in _HOT:
        hot = subject.with_params({name: temperature})
        pair = hot.pair()
        drawn = hot.draw(pair)
        own, theirs = _random_logits(len(drawn.batch.labels), pair.student.num_classes)
        call, leaf = on_logits(hot, pair, drawn, own, theirs)
        for term, size in sizes_of(call, leaf).items():
            found.setdefault(term, []).append(size)
    return {term: sizes for term, sizes in found.items() if len(sizes) == len(_HOT) and min(sizes) > 0}


def _random_logits(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    return torch.randn(rows, classes, generator=draw), torch.randn(rows, classes, generator=draw)


def _classes(subject: Subject, said: list[str]) -> tuple[str, str]:
    """Whether a divergence is summed over the classes: classes that nobody takes to be possible change nothing."""
    if not both_give_logits(subject) or not any(_DIVERGENCE.search(one) for one in said):
        return "", ""
    few, many = (_with_classes(subject, classes) for classes in (10, 20))
    shifted = _with_classes(subject, 10, shift=2.0)
    unsure, sure = (_with_classes(subject, 10, size) for size in (20.0, 40.0))
    message = []
    for name in few.keys() & many.keys() & unsure.keys() & sure.keys():
        if few[name] <= 1e-9 or not 1.5 < sure[name] / max(unsure[name], 1e-9) < 2.6:
            continue  # a divergence grows with how far two answers are apart, and what is bounded is none
        if abs(shifted.get(name, math.inf) - few[name]) > 1e-3 * few[name]:
            continue  # a softmax over the classes does not see what is added to all logits of a sample
        ratio = many[name] / few[name]
        if abs(ratio - 0.5) < 5e-3:
            return (
                f"the equation has a divergence, whose sum runs over the classes, but {name} is half as large beside "
                "as many classes again that both networks rule out: it is averaged over the classes too, as by "
                '`.mean()` instead of `.sum(dim=1).mean()` or `reduction="batchmean"`'
            ), ""
        if abs(ratio - 1) < 5e-3:
            message.append(f"{name} summed over the classes")
    return "", ", ".join(sorted(message))


def _with_classes(subject: Subject, classes: int, size: float = 1.0, shift: float = 0.0) -> dict[str, float]:
    """The terms on ten classes that are possible, and others that are not; something may be added to a sample's."""
    pair = subject.pair(classes=classes)
    drawn = subject.draw(subject.pair(classes=10))
    rows = len(drawn.batch.labels)
    ruled_out = torch.full((rows, classes - 10), -300.0)
    by_sample = shift * torch.arange(rows)[:, None]
    own, theirs = (torch.cat([size * each, ruled_out], dim=1) + by_sample for each in _random_logits(rows, 10))
    return on_logits(subject, pair, drawn, own, theirs)[0].values


EQUATION = Check(
    name="equation",
    verifies="the code does what the equation after `Loss:` says, as far as that can be read: the weight before `CE` "
    "is `ce_weight`; where the square of the temperature is named, the gradient keeps its size when the temperature is "
    "doubled; where a KL divergence is named, it is summed over the classes",
    matters="people port methods and compare weights by the equation: without T^2 the labels weigh T^2 times as "
    "much as it says",
    mend='multiply by `temperature**2`, set `ce_weight`, take `reduction="batchmean"`; or correct the equation',
    run=_equation,
    needs=("terms", "repeatable"),
)
