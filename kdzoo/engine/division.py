"""One batch divided among ranks: each runs the student on its rows.

A per-sample strategy computes its loss on those rows too, and gradients are averaged while the backward pass goes on.

For any other strategy, all ranks compute the loss on the whole batch. So it sees what it sees in one process:
relations between all samples, whole queues and memories, rows in their order. Only the own rows carry gradients, and
the gradients of the student are summed over the ranks. What is not divided (the strategy's own modules, the student's
classifier where a strategy uses it directly) gets on every rank the gradient that one process would give it, and is
counted once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdzoo.engine.devices import AcceleratorBackward
from kdzoo.engine.optim import has_plain_gradients
from kdzoo.engine.world import World, lost_ranks
from kdzoo.errors import UsageError
from kdzoo.models.memory_format import keep_format
from kdzoo.outputs import Batch, Classifier, Outputs
from kdzoo.strategy import Strategy


def overlaps(strategy: type[Strategy]) -> bool:
    """Whether each rank computes the loss of a strategy on its own rows, and gradients are averaged meanwhile.

    A strategy that combines gradients in its own way sees those of the whole batch after each of its passes.
    """
    return strategy.per_sample and has_plain_gradients(strategy)


def check_batch(size: int, world: World, *, uneven: bool = False) -> None:
    """Refuse a batch that cannot be divided.

    Args:
        size: samples of a batch.
        world: the ranks.
        uneven: whether the ranks may have different numbers of rows.

    Raises:
        UsageError: the rows of the ranks would differ in number, or a rank would have none.
    """
    if size < world.size if uneven else size % world.size:
        raise UsageError(
            f"a batch of {size} samples cannot be divided among {world.size} processes; "
            "start a number of processes that divides it"
        )


class Division:
    """How the rows of batches are divided: rank r has the r-th part of each view.

    Args:
        world: the ranks.
        views: rows of each sample in a batch: its versions, and all variants of them.
        seed: of the draws that the student makes on this rank (dropout, dropped paths).
        device: where the student draws.
    """

    def __init__(self, world: World, views: int, seed: int = 0, device: torch.device | None = None) -> None:
        self.world, self.views = world, views
        self._cuda = [device] if device is not None and device.type == "cuda" else []
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of the student's draws anew; each rank has another one for the same seed."""
        with torch.random.fork_rng(devices=self._cuda):
            torch.manual_seed((seed + self.world.rank * 0x9E3779B97F4A7C15) % 2**63)
            self._state = self._generators()

    def own(self, batch: Batch) -> tuple[Batch, float]:
        """The batch of this rank's rows alone, and how much their mean counts in the mean over all ranks."""
        rows = {name: self._rows(getattr(batch, name)) for name in ("inputs", "labels", "targets", "index")}
        return replace(batch, **rows), len(rows["labels"]) * self.world.size / len(batch.labels)

    def rows(self, batch: Batch) -> Batch:
        """The batch with the inputs of this rank's rows; the rest of it stays whole."""
        return replace(batch, inputs=self._rows(batch.inputs))

    def whole(self, outputs: Outputs) -> Outputs:
        """The signals of all rows, in the order of the batch, from each rank's signals of its own."""
        return replace(outputs, values={name: self._whole(value) for name, value in outputs.values.items()})

    @contextmanager
    def own_draws(self) -> Iterator[None]:
        """In the ``with`` block torch draws from this rank's stream; behind it, from where it was before."""
        with torch.random.fork_rng(devices=self._cuda):
            self._restore(self._state)
            yield
            self._state = self._generators()

    def _rows(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            views = value.chunk(self.views)
            return torch.cat([view.tensor_split(self.world.size)[self.world.rank] for view in views])
        if isinstance(value, dict):
            return {name: self._rows(each) for name, each in value.items()}
        return type(value)(map(self._rows, value)) if isinstance(value, (tuple, list)) else value

    def _whole(self, value: Any) -> Any:
        if isinstance(value, Classifier):
            bias = None if value.bias is None else once(value.bias, self.world)
            return Classifier(once(value.weight, self.world), bias)
        if isinstance(value, Tensor):
            parts = [part.chunk(self.views) for part in self.world.gather(value)]
            return torch.cat([part[view] for view in range(self.views) for part in parts])
        return type(value)(map(self._whole, value)) if isinstance(value, (tuple, list)) else value

    def _generators(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda)]

    def _restore(self, state: Sequence[Tensor]) -> None:
        torch.set_rng_state(state[0])
        for device, each in zip(self._cuda, state[1:], strict=True):
            torch.cuda.set_rng_state(each, device)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, counts: bool) -> Tensor:
        ctx.counts = counts
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return (gradients[0] if ctx.counts else torch.zeros_like(gradients[0])), None


def once(value: Tensor, world: World) -> Tensor:
    """The tensor, whose gradient by this way is counted on rank 0 alone: all ranks have the same."""
    return _Once.apply(value, world.leads) if world.size > 1 else value


def overlapped(model: nn.Module, world: World) -> DistributedDataParallel:
    """The model, whose gradients are averaged over the ranks while the backward pass goes on.

    Its parameters and buffers are equal already, and its batch normalisation sees the rows of all ranks.

    Args:
        model: gives terms; the parameters that ask for gradients now are those that are trained.
        world: the ranks.
    """
    # A hint on an early stage, or a phase, may leave parameters without a gradient.
    return DistributedDataParallel(
        _WithSpare(model),
        forward_sync_buffers=False,
        init_sync=False,
        find_unused_parameters=True,
        process_group=world.own_group(),
    )


class _WithSpare(nn.Module):
    """A model with a parameter that it never uses: where all are used, torch warns of ``find_unused_parameters``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.spare = nn.Parameter(next(parameter for parameter in model.parameters()).new_zeros(1))

    def forward(self, *arguments: Any) -> Any:
        return self.model(*arguments)


class OverlappedBackward(AcceleratorBackward):
    """A backward pass of a model that is :func:`overlapped`."""

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """See :class:`AcceleratorBackward`.

        Raises:
            LostRankError: another rank is gone.
        """
        with lost_ranks(), warnings.catch_warnings():
            # Of 1x1 kernels in channels_last: the strides differ, and the order in memory does not.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            super().__call__(loss, retain_graph=retain_graph)


class DividedBackward(AcceleratorBackward):
    """A backward pass whose gradients are those of the whole batch, and the same bits on every rank.

    They are summed after each pass and not once a step: a strategy may combine the gradients of several passes, or
    keep them, and must see on every rank what it would see in one process.

    Args:
        accelerator: as for :class:`AcceleratorBackward`.
        parameters: as for :class:`AcceleratorBackward`.
        world: the ranks.
        own: the strategy. Its parameters get the same gradient on every rank, of which rank 0's is taken.
    """

    def __init__(
        self, accelerator: Accelerator, parameters: tuple[nn.Parameter, ...], world: World, own: nn.Module
    ) -> None:
        super().__init__(accelerator, parameters)
        self._world = world
        self._alike = {id(parameter) for parameter in own.parameters()}

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """See :class:`AcceleratorBackward`."""
        before = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        super().__call__(loss, retain_graph=retain_graph)
        self._sum()
        for parameter, old in zip(self.parameters, before, strict=True):
            if old is not None:
                parameter.grad = old if parameter.grad is None else old + parameter.grad

    def _sum(self) -> None:
        kinds: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in self.parameters:
            kinds.setdefault(parameter.dtype, []).append(parameter)
        for alike in kinds.values():
            flat = self._world.add(torch.cat([self._counted(parameter).flatten() for parameter in alike]))
            parts = flat.split([parameter.numel() for parameter in alike])
            for parameter, part in zip(alike, parts, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(part.view_as(parameter))

    def _counted(self, parameter: nn.Parameter) -> Tensor:
        counts = self._world.leads or id(parameter) not in self._alike
        return parameter.grad if parameter.grad is not None and counts else torch.zeros_like(parameter)


def run_divided(model: Callable[..., Outputs], batch: Batch, signals: Any, division: Division | None) -> Outputs:
    """The student's signals of a whole batch.

    Args:
        model: inputs and signals -> outputs.
        batch: whole.
        signals: what to give.
        division: how the batch is divided; None where it is not.
    """
    if division is None:
        return _run(model, batch, signals)
    with division.own_draws():
        own = _run(model, division.rows(batch), signals)
    return division.whole(own)


def _run(model: Callable[..., Outputs], batch: Batch, signals: Any) -> Outputs:
    outputs = model(batch.inputs, signals)
    keep_format((*outputs.values.get("stages", ()), *outputs.values.get("pre_stages", ())))
    return outputs
