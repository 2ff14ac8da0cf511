"""Checks of the methods around the loss: how images are augmented, and the teacher is reduced and surveyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdzoo.declarations import teacher_signals
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.teacher_survey import surveys
from kdzoo.outputs import Batch, Classifier, Outputs
from kdzoo.strategy import Strategy
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped
from kdzoo.testing.kit.instruments import same
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import draw_survey, tap_teacher

_IMAGES = 8


def _variants(subject: Subject) -> CheckResult:
    count = subject.kind.variants
    if count == 1:
        return skipped("it makes no variants of images")
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind))
    images = torch.rand(_IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(2))

    def made(given: Tensor) -> Tensor:
        seed_everything(5)
        with torch.no_grad():
            rows: Tensor = strategy.augment(given.clone())
        return rows.clone()

    rows = made(images)
    if rows.shape != (count * _IMAGES, *images.shape[1:]):
        return failed(f"it gives {tuple(rows.shape)} of {tuple(images.shape)}, and variants is {count}")
    if not torch.equal(rows[:_IMAGES], images):
        return failed("the first rows are not the images as they came")
    other = images.clone()
    other[0] = 1 - other[0]
    changed = (made(other) != rows).flatten(1).any(dim=1).nonzero().flatten()
    if strange := sorted({int(row) % _IMAGES for row in changed} - {0}):
        return failed(f"a row of image {strange[0]} changes with image 0: give one variant of all images after another")
    return passed(f"{count} rows of each image, itself first")


_Rows = dict[str, Tensor]


def _reduce(subject: Subject) -> CheckResult:
    kind, pair = subject.kind, subject.pair()
    if kind.reduce is Strategy.reduce or not teacher_signals(kind):
        return skipped("not overridden")
    strategy = subject.build(pair.setup(kind))
    drawn, backwards = subject.draw(pair, 8), torch.arange(8 * subject.rows_of_sample).flip(0)

    def kept(order: Tensor) -> _Rows:
        features = drawn.teacher.map(lambda x: x[order])
        with torch.no_grad():
            return dict(_rows_of(strategy.reduce(tap_teacher(kind, features, pair.layers[1]).outputs), len(order)))

    whole = kept(torch.arange(8 * subject.rows_of_sample))
    fault = next(_faults(strategy, whole, kept, backwards), None)
    sizes = ", ".join(f"{name} {' x '.join(map(str, rows.shape[1:]))}" for name, rows in whole.items())
    return failed(fault) if fault else passed(f"a sample gives {sizes}")


def _faults(strategy: Strategy, whole: _Rows, kept: Callable[[Tensor], _Rows], backwards: Tensor) -> Iterator[str]:
    """What is wrong; the strategy's state is other than before when this comes to its end."""
    if name := _differing(kept(backwards), {name: rows[backwards] for name, rows in whole.items()}):
        yield f"{name} depends on the place of a sample in the batch"
    if name := _differing(kept(torch.arange(3)), {name: rows[:3] for name, rows in whole.items()}):
        yield f"{name} depends on the other samples of the batch"
    torch.manual_seed(1)
    if name := _differing(kept(backwards.flip(0)), whole):
        yield f"{name} depends on random numbers, or changes from call to call"
    with torch.no_grad():
        for tensor in strategy.state_dict().values():
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                tensor.add_(1.0)
    if name := _differing(kept(backwards.flip(0)), whole):
        yield f"{name} depends on parameters or buffers of the strategy, which change in training"
    if strange := sorted(set(strategy.reduction()) - {each.partition("[")[0] for each in whole}):
        yield f"reduction() names {', '.join(strange)}, which reduce does not give"


def _rows_of(outputs: Outputs, samples: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a bank keeps, by name; a tuple's are numbered."""
    for name, value in outputs.values.items():
        if isinstance(value, Classifier):
            continue
        for place, part in enumerate((value,) if isinstance(value, Tensor) else tuple(value)):
            if not isinstance(part, Tensor) or part.shape[:1] != (samples,):
                raise TypeError(f"reduce gives {name!r}, which is no tensor with a row for each sample")
            yield name if isinstance(value, Tensor) else f"{name}[{place}]", part


def _differing(one: _Rows, other: _Rows) -> str:
    """The first value in which two reductions differ."""
    if one.keys() != other.keys():
        return "the set of values"
    differing = (name for name in one if not torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6))
    return next(differing, "")


def _survey(subject: Subject) -> CheckResult:
    if not surveys(subject.kind):
        return skipped("not overridden")
    setup = subject.pair().setup(subject.kind)
    strategy = subject.build(setup)
    before = {name: value.detach().clone() for name, value in strategy.state_dict().items()}
    blank = subject.kind(setup, **subject.params).state_dict()
    whole = draw_survey(subject.kind, setup)
    single = [(_row(seen, row), _row(batch, row)) for seen, batch in whole for row in range(len(batch.labels))]
    for how, batches in (("again", whole), ("by batches of one sample", single)):
        with torch.no_grad():
            strategy.survey([(strategy.reduce(seen), batch) for seen, batch in batches])
        for name, value in strategy.state_dict().items():
            if not torch.allclose(value.double(), before[name].double(), rtol=1e-4, atol=1e-6):
                return failed(f"{name} is another one where the same samples are shown {how}")
    filled = [name for name, value in before.items() if name in blank and not same(value, blank[name])]
    if not filled:
        return failed("it fills no buffer, so that what it finds is not in the checkpoint")
    return passed(f"it fills {', '.join(filled)}, whatever the size of the batches")


def _row(value: Any, row: int) -> Any:
    """One row of signals, or of a batch."""
    if isinstance(value, Outputs):
        return Outputs({name: _row(each, row) for name, each in value.values.items()})
    if isinstance(value, Batch):
        parts = ("inputs", "labels", "targets", "index")
        return replace(value, **{name: getattr(value, name)[row : row + 1] for name in parts})
    if isinstance(value, Classifier):
        return value
    return value[row : row + 1] if isinstance(value, Tensor) else tuple(_row(each, row) for each in value)


VARIANTS = Check(
    name="variants",
    verifies="where `variants` is above 1, `augment` gives that many rows of each image: the images as they came, then "
    "the second variant of each, and so on, each made of its own image alone",
    matters="labels, targets and indices are repeated in this order, and the hard-label loss is that of the first rows",
    mend="join the variants by `torch.cat([images, second, ...])`; use `repeat_interleave` in `forward`, not here",
    run=_variants,
    needs=("terms",),
)


REDUCTION = Check(
    name="reduce",
    verifies="where `reduce` is overridden, each row of what it gives depends on the same row of the teacher's signals "
    "and on nothing that changes: no other sample, random number, parameter or buffer",
    matters="the teacher bank caches its result and uses it in other batches and epochs",
    mend="move parts that depend on the batch or on adapters into `forward`",
    run=_reduce,
    needs=("terms",),
)


SURVEY = Check(
    name="survey",
    verifies="where `survey` is overridden, it fills buffers that `build` made, with the same values if it is called "
    "again, and in batches of any size",
    matters="batches differ in size between devices, and a training that was resumed must find the same statistics",
    mend="set buffers to what was found instead of adding to them; weigh each sample alike and not each batch",
    run=_survey,
    needs=("terms",),
)
