"""The check that a term does not depend on how many samples are in the batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.subject import Subject

SAMPLES, TIMES = 8, 4

ROUNDING = 0.02
"""What the mean over the same samples several times over may differ by."""

BAND = 2.0
"""Times by which a loss on pairs of samples may grow: one more negative of each kind is harder to tell apart."""


def _batch_size(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    first, second = torch.arange(SAMPLES), torch.arange(SAMPLES, 2 * SAMPLES)
    once, other = _terms(subject, first), _terms(subject, second)
    twice, both = _terms(subject, first.repeat(2)), _terms(subject, torch.cat([first, second]))
    often = _terms(subject, first.repeat(TIMES))
    found, shrinks = [], []
    for name in once.keys() & other.keys() & twice.keys() & both.keys() & often.keys():
        if min(abs(once[name]), abs(often[name])) < 1e-9:
            continue
        ratio = often[name] / once[name]
        told = (
            f"{name} is {once[name]:.4g} on {SAMPLES} samples and {ratio:.2g} times as much on the same {TIMES} times"
        )
        # What is a sum over samples, whatever it is divided by, is the same multiple of its halves' sum on all batches.
        share = twice[name] / (2 * once[name])
        alone = abs(both[name] - share * (once[name] + other[name])) <= 1e-3 * abs(both[name])
        if ratio > BAND or (alone and abs(ratio - 1) > ROUNDING):
            return failed(told)
        if ratio < 1 / BAND:
            shrinks.append(told)
        found.append(f"{name} {ratio:.2f} times")
    if shrinks:
        return warned("; ".join(shrinks))
    return passed(f"on the same samples {TIMES} times: " + ", ".join(sorted(found)) if found else "its terms are 0")


def _terms(subject: Subject, places: torch.Tensor) -> Mapping[str, float]:
    """The terms on these of 16 samples; their means over some seeds, where they are random."""
    pair = subject.pair()
    drawn = subject.draw(pair, 2 * SAMPLES).rows(places)
    calls = [subject.call(pair, drawn, seed=seed).values for seed in range(24 if subject.draws else 1)]
    names = set(calls[0]).intersection(*calls)
    return {name: sum(terms[name] for terms in calls) / len(calls) for name in names}


BATCH_SIZE = Check(
    name="batch-size",
    verifies="no term changes with the number of samples: on the same samples four times over, a mean over the samples "
    "stays what it is, and a loss on pairs of samples at most doubles; a warning where such a loss falls below half",
    matters="a sum over the batch, or a mean that is divided by the batch once more, ties the term's weight to the "
    "batch size: the same beta means something else on another machine, and in a partial batch",
    mend='take the mean over the batch, once: `.mean()`, or `reduction="batchmean"` for the KL divergence',
    run=_batch_size,
    needs=("terms",),
)
