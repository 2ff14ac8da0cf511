"""The check that the hard-label loss is added once."""

from __future__ import annotations

import torch.nn.functional as F

from kdzoo.testing.check import Check, Verdict, passed, skipped, warned
from kdzoo.testing.subject import NO_TERMS, Subject

NEAR = 1e-4
"""Share by which the ratio of two losses may differ between batches and still be one number."""


def _labels(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair, ratios = subject.pair(), dict[str, list[float]]()
    weight = subject.build(pair.setup(subject.kind)).ce_weight
    for seed in range(3):
        drawn = subject.draw(pair, seed=seed)
        call = subject.call(pair, drawn)
        hard = float(F.cross_entropy(call.student.outputs.logits.detach().float(), drawn.batch.labels))
        for name, value in call.values.items():
            ratios.setdefault(name, []).append(value / hard)
    for name, found in ratios.items():
        middle, spread = found[0], max(found) - min(found)
        if len(found) == 3 and middle and spread <= NEAR * abs(middle) and weight:
            return warned(
                f"{name} is {middle:.3g} times the cross-entropy with the labels, which the engine adds too, "
                f"{weight:g} times"
            )
    return passed("the engine's alone" if weight else "the engine adds none")


LABELS = Check(
    name="labels-once",
    verifies="no term is a multiple of the cross-entropy of the student's logits with the labels, unless `ce_weight` "
    "is 0",
    matters="the engine adds that loss itself: twice as much of it is another balance than the paper's",
    mend="leave it out of `forward`, and set its weight by `ce_weight`",
    run=_labels,
    needs=("terms",),
)
