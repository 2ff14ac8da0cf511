"""The check of ``Strategy.reduce``: what the teacher bank may keep in the place of the signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kdzoo.signals import teacher_signals
from kdzoo.strategy import Classifier, Outputs, Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.made import tap_teacher
from kdzoo.testing.subject import Subject

Kept = dict[str, Tensor]


def _reduce(subject: Subject) -> Verdict:
    kind, pair = subject.kind, subject.pair()
    if kind.reduce is Strategy.reduce or not teacher_signals(kind):
        return skipped("not overridden")
    strategy = subject.build(pair.setup(kind))
    drawn, backwards = subject.draw(pair, 8), torch.arange(8 * kind.views).flip(0)

    def kept(order: Tensor) -> Kept:
        features = drawn.teacher.map(lambda x: x[order])
        with torch.no_grad():
            return dict(_rows(strategy.reduce(tap_teacher(kind, features, pair.layers[1]).outputs), len(order)))

    whole = kept(torch.arange(8 * kind.views))
    fault = next(_faults(strategy, whole, kept, backwards), None)
    sizes = ", ".join(f"{name} {' x '.join(map(str, rows.shape[1:]))}" for name, rows in whole.items())
    return failed(fault) if fault else passed(f"a sample gives {sizes}")


def _faults(strategy: Strategy, whole: Kept, kept: Callable[[Tensor], Kept], backwards: Tensor) -> Iterator[str]:
    """What is wrong; the strategy's state is other than before when this comes to its end."""
    if told := _apart(kept(backwards), {name: rows[backwards] for name, rows in whole.items()}):
        yield f"{told} depends on the place of a sample in the batch"
    if told := _apart(kept(torch.arange(3)), {name: rows[:3] for name, rows in whole.items()}):
        yield f"{told} depends on the other samples of the batch"
    torch.manual_seed(1)
    if told := _apart(kept(backwards.flip(0)), whole):
        yield f"{told} depends on random numbers, or changes from call to call"
    with torch.no_grad():
        for tensor in strategy.state_dict().values():
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                tensor.add_(1.0)
    if told := _apart(kept(backwards.flip(0)), whole):
        yield f"{told} depends on parameters or buffers of the strategy, which change in training"
    if strange := sorted(set(strategy.reduction()) - {name.partition("[")[0] for name in whole}):
        yield f"reduction() names {', '.join(strange)}, which reduce does not give"


def _rows(outputs: Outputs, samples: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a bank keeps, by name; a tuple's are numbered."""
    for name, value in outputs.values.items():
        if isinstance(value, Classifier):
            continue
        for place, part in enumerate((value,) if isinstance(value, Tensor) else tuple(value)):
            if not isinstance(part, Tensor) or part.shape[:1] != (samples,):
                raise TypeError(f"reduce gives {name!r}, which is no tensor with a row for each sample")
            yield name if isinstance(value, Tensor) else f"{name}[{place}]", part


def _apart(one: Kept, other: Kept) -> str:
    """The first value in which two reductions differ."""
    if one.keys() != other.keys():
        return "the set of values"
    differing = (name for name in one if not torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6))
    return next(differing, "")


REDUCTION = Check(
    name="reduce",
    verifies="where `reduce` is overridden, each row of what it gives depends on the same row of the teacher's signals "
    "and on nothing that changes: no other sample, random number, parameter or buffer",
    matters="the teacher bank keeps what it gives and hands it out in other batches and epochs",
    mend="move what depends on the batch or on adapters into `forward`",
    run=_reduce,
    needs=("terms",),
)
