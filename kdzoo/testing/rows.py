"""The check that a memory by sample is found by the samples' own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from kdzoo.strategy import Setup, Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.made import TRAINING_SAMPLES
from kdzoo.testing.state import same
from kdzoo.testing.subject import Subject


def _memories(subject: Subject) -> Verdict:
    pair = subject.pair()
    setup = pair.setup(subject.kind)
    sides = _by_sample(subject, setup)
    if not sides:
        return skipped("it has no buffer that is as long as the training samples are many")
    drawn, later = subject.draw(pair), subject.draw(pair, seed=4)
    # The same samples, in which the networks see something else.
    other = replace(subject.draw(pair, seed=1), batch=drawn.batch)
    fresh, strategy, elsewise = (_copies(subject.build(setup)), subject.build(setup), subject.build(setup))
    subject.call(pair, drawn, strategy=strategy)
    subject.call(pair, other, strategy=elsewise)
    first, others = _copies(strategy), _copies(elsewise)
    subject.call(pair, later, strategy=strategy)
    second = _copies(strategy)
    named = {*drawn.batch.index.tolist(), *later.batch.index.tolist()}
    for name, side in sides.items():
        # A queue goes on to other rows; what is found by the place in the batch comes to the same ones again.
        again = {*_rows_apart(first[name], others[name], side)} & {*_rows_apart(first[name], second[name], side)}
        if wrong := sorted(again - named):
            listed = ", ".join(map(str, wrong[:3])) + (" ..." if len(wrong) > 3 else "")
            return failed(
                f"self.{name} is as long as the training samples are many, and each of two batches is written to its "
                f"rows {listed}, none of which batch.index names: its rows may be found by the place in the batch"
            )
    told = ", ".join(f"self.{name}" for name in sides if not same(fresh[name], first[name]))
    return passed(f"{told}: found by batch.index, or a queue" if told else "nothing is written to it")


def _copies(strategy: Strategy) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in strategy.named_buffers()}


def _by_sample(subject: Subject, setup: Setup) -> dict[str, int]:
    """Buffers that are longer where there are more training samples, each with the dimension of the samples."""
    longer = subject.build(replace(setup, num_samples=TRAINING_SAMPLES + 64))
    return dict(_sides(subject.build(setup), longer))


def _sides(strategy: Strategy, longer: Strategy) -> Iterator[tuple[str, int]]:
    others = dict(longer.named_buffers())
    for name, buffer in strategy.named_buffers():
        if name in others and others[name].ndim == buffer.ndim:
            for side, (length, more) in enumerate(zip(buffer.shape, others[name].shape, strict=True)):
                if (length, more) == (TRAINING_SAMPLES, TRAINING_SAMPLES + 64):
                    yield name, side


def _rows_apart(one: Tensor, other: Tensor, side: int) -> list[int]:
    """The rows, along a dimension, in which two tensors differ."""
    if one.shape != other.shape:
        return []
    left, right = (each.detach().movedim(side, 0).reshape(each.shape[side], -1) for each in (one, other))
    return [place for place in range(len(left)) if not same(left[place], right[place])]


MEMORY_ROWS = Check(
    name="memory-rows",
    verifies="in a buffer that is as long as the training samples are many, no two batches of different samples are "
    "written to the same rows, but for those of their `batch.index`",
    matters="the place in the batch is another sample at each step: what is remembered of one is then another's",
    mend="write `self.memory[batch.index] = ...`, and read by `batch.index` too",
    run=_memories,
    needs=("terms", "repeatable"),
)
