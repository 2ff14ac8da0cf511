"""What a step and a checkpoint of crd cost by the number of training samples; the bounds keep the step free of it.

    python benchmarks/crd_memory.py

Memories are made as for a training, of 128 numbers for each sample and network, and filled with random rows. A step
draws negatives, computes the loss and its gradients, and updates the batch's rows; the networks are left out. The sizes
take turns, and medians count. From a set of the smallest size all products are made, which is faster there; so it is
measured by the way of large sets as well ("fetched"), and the bound on time compares the two largest. Steps are timed
by the seconds of the processor, which other work on the machine hardly changes. Memory is what a step allocates at most
beside the strategy's buffers. The checkpoint is written by the engine's own code, to --folder; its wall time depends on
the disk, so the processor's is given as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import torch
from common import tell

from kdzoo import Batch, Outputs, Setup, Signature
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.testing.checks.cost import peak_bytes
from kdzoo_zoo.contrast import sampled
from kdzoo_zoo.contrast.crd import ContrastiveRepresentation

WIDTH = 512
"""Of both networks' embeddings."""

CLASSES = 1000


class Trained:
    """crd for a set of so many samples, and batches for it."""

    def __init__(self, samples: int, batch: int, negatives: int) -> None:
        network = Signature(stages=(), embedding=WIDTH, num_classes=CLASSES)
        began = time.process_time()
        self.strategy = ContrastiveRepresentation(
            Setup(network, network, (), num_classes=CLASSES, num_samples=samples), negatives=negatives
        )
        self.build_seconds = time.process_time() - began
        self._samples, self._batch = samples, batch
        self.strategy.labels.random_(CLASSES)

    def step(self) -> None:
        """One step, but for the networks."""
        signals = [Outputs({"embedding": torch.randn(self._batch, WIDTH)}) for _ in range(2)]
        index = torch.randperm(self._samples)[: self._batch] if self._samples < 10**5 else self._apart()
        labels = self.strategy.labels[index].long()
        batch = Batch(inputs=None, labels=labels, targets=labels, index=index)
        terms = self.strategy(signals[0], signals[1], batch)
        torch.autograd.backward(terms["contrast"])

    def _apart(self) -> torch.Tensor:
        """Different samples, without a permutation of the set."""
        first = torch.randint(self._samples // self._batch, ())
        return first + torch.arange(self._batch) * (self._samples // self._batch)

    def seconds(self, fetched: bool = False) -> float:
        """Of a step."""
        with patch.object(sampled, "DENSE", 0) if fetched else nullcontext():
            began = time.process_time()
            self.step()
            return time.process_time() - began

    def extra_bytes(self) -> int:
        """What a step allocates at most beside the buffers."""

        def counted() -> None:
            for buffer in self.strategy.buffers():
                buffer.view_as(buffer)  # counts from the start, as what an operation returns
            self.step()

        return peak_bytes(counted) - sum(buffer.nbytes for buffer in self.strategy.buffers())


class Saved(NamedTuple):
    """A checkpoint: seconds on the clock and of the processor, and bytes of the file."""

    wall: float
    processor: float
    size: int


def checkpoint(strategy: ContrastiveRepresentation, folder: Path) -> Saved:
    """Save the strategy's state as after an epoch."""
    checkpoints, state = Checkpoints(folder), {"strategy": strategy.state_dict()}
    wall, processor = time.perf_counter(), time.process_time()
    checkpoints.save(1, state)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Saved(wall, processor, max(path.stat().st_size for path in folder.iterdir()))


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, nargs=3, default=[50_000, 200_000, 1_281_167], help="from small to large"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--folder", help="where the checkpoint is written for a moment; by default a temporary one")
    args = parser.parse_args()
    trained = {samples: Trained(samples, args.batch, args.negatives) for samples in args.samples}
    seconds: dict[str, list[float]] = {}
    for turn in range(args.steps + 1):
        for samples, one in trained.items():
            ways = (False, True) if samples == args.samples[0] else (False,)
            for fetched in ways:
                taken = one.seconds(fetched)
                if turn:  # the first finds the constants, and touches memory for the first time
                    seconds.setdefault(f"{samples}{' fetched' if fetched else ''}", []).append(round(taken, 4))
    memory = {str(samples): one.extra_bytes() for samples, one in trained.items()}
    saved: dict[str, Saved] = {}
    for samples, one in trained.items():
        with TemporaryDirectory(dir=args.folder) as folder:
            saved[str(samples)] = checkpoint(one.strategy, Path(folder))
    largest, second = str(args.samples[2]), str(args.samples[1])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    epoch = args.samples[2] / args.batch * medians[largest]
    result = {
        "step_seconds": {name: round(value, 4) for name, value in medians.items()},
        "step_time_ratio": round(medians[largest] / medians[second], 3),
        "step_memory_mib": {name: round(value / 2**20, 1) for name, value in memory.items()},
        "step_memory_ratio": round(memory[largest] / memory[second], 3),
        "step_memory_largest_mib": round(memory[largest] / 2**20, 1),
        "memories_mib": {str(samples): round(2 * samples * 128 * 4 / 2**20, 1) for samples in args.samples},
        "build_seconds": {str(samples): round(one.build_seconds, 2) for samples, one in trained.items()},
        "checkpoint_wall_seconds": {name: round(one.wall, 2) for name, one in saved.items()},
        "checkpoint_processor_seconds": {name: round(one.processor, 2) for name, one in saved.items()},
        "checkpoint_mib": {name: round(one.size / 2**20, 1) for name, one in saved.items()},
        "checkpoint_share_of_crds_own_epoch": round(saved[largest].processor / epoch, 5),
        "all_steps": seconds,
    }
    bounds = {
        "step_time_ratio": (0.0, 1.3),
        "step_memory_ratio": (0.0, 1.05),
        "step_memory_largest_mib": (0.0, 128.0),
        "checkpoint_share_of_crds_own_epoch": (0.0, 0.01),
    }
    sys.exit(not tell("crd_memory", vars(args), result, bounds))


if __name__ == "__main__":
    main()
