"""Throughput of training through kdzoo against a bare loop over tensors in memory.

Both train the same timm model with the same optimizer in batches of the same size. kdzoo trains the student alone
(strategy ``ce``) with all that it does at each step: order, views, normalisation, schedule, terms, progress. The bare
loop reads normalised float tensors from memory and does nothing but forward, loss, backward and step. It has the
optimizer's form and the memory format that kdzoo has, so that the ratio is what the harness costs; with ``--default``
it has torch's default memory format, as a person would first write it. Their epochs alternate in one process and one
thread, so that other load on the machine hits both, and the ratio is the median over the pairs of epochs. With
``--crop`` both augment: kdzoo by its views, the bare loop by one random crop of each batch.

    python benchmarks/overhead.py --model resnet10t --batch 64 --steps 20 --epochs 15
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from common import tell
from torch import Tensor

from kdzoo import ArrayData, Dataset, Setup, Splits
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData, open_data
from kdzoo.declarations import pair_stages
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.engine.devices import make_accelerator
from kdzoo.engine.distiller import Distiller
from kdzoo.engine.optim import make_optimizer
from kdzoo.engine.train import Training
from kdzoo.models.memory_format import lay_out
from kdzoo.models.zoo import create_model
from kdzoo.recipe import Augment, Recipe
from kdzoo.record_parts import Epoch
from kdzoo.refs import ModelRef, StrategyRef
from kdzoo.registry import Registry

CLASSES = 10


class Noise(Dataset):
    """Random grey images: the time of a step does not depend on what they show."""

    name = "noise"

    def __init__(self, count: int, size: int) -> None:
        self.count, self.img_size = count, (size, size)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Make them; tune and test are as small as they can be."""
        draw = np.random.default_rng(0)
        parts = [
            ArrayData(
                draw.integers(0, 256, (count, 1, *self.img_size), dtype=np.uint8),
                np.arange(count, dtype=np.int64) % CLASSES,
            )
            for count in (self.count, CLASSES, CLASSES)
        ]
        return Splits(parts[0], parts[1], tuple("abcdefghij"), tune=parts[2])


class BareLoop:
    """What a person would write for one model and one optimizer."""

    def __init__(self, data: LoadedData, model: str, recipe: Recipe, *, laid_out: bool) -> None:
        self.model = create_model(ModelRef.parse(model), data.ref, data.mean, data.std).model
        if laid_out:
            lay_out(self.model, torch.device("cpu"))
        self.optimizer = make_optimizer(self.model, recipe, plain_gradients=True)
        images = data.images("fit", torch.arange(data.ref.fit))
        self.images = (images - torch.tensor(data.mean).view(1, -1, 1, 1)) / torch.tensor(data.std).view(1, -1, 1, 1)
        self.labels = data.labels("fit")
        self.batch, self.pad = recipe.batch_size, recipe.augment.crop

    def epoch(self) -> None:
        """Train once over the images."""
        self.model.train()
        for chosen in torch.split(torch.randperm(len(self.labels)), self.batch):
            loss = F.cross_entropy(self.model(self._crop(self.images[chosen])), self.labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _crop(self, images: Tensor) -> Tensor:
        if not self.pad:
            return images
        height, width = images.shape[2:]
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        return F.pad(images, (self.pad,) * 4)[:, :, top : top + height, left : left + width]


class Alternate:
    """Watches kdzoo's training and, after each of its epochs, runs and times one of the bare loop."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.bare_seconds: list[float] = []
        self.kdzoo_seconds: list[float] = []
        self.training: Training

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step of kdzoo is done."""

    def epoch(self, line: Epoch, epochs: int) -> None:
        """An epoch of kdzoo is done."""
        self.kdzoo_seconds.append(self.training.seconds["train"] - sum(self.kdzoo_seconds))
        began = time.perf_counter()
        self.bare.epoch()
        self.bare_seconds.append(time.perf_counter() - began)


def measure(
    model: str, batch: int, steps: int, epochs: int, size: int, crop: int, *, laid_out: bool
) -> dict[str, float]:
    """Medians over the epochs, the first pair left out as a warm-up."""
    recipe = Recipe(name="bench", epochs=epochs + 1, batch_size=batch, augment=Augment(crop=crop))
    data = open_data("noise", lambda _: Noise(batch * steps, size))
    torch.manual_seed(0)
    watch = Alternate(BareLoop(data, model, recipe, laid_out=laid_out))
    entry = Registry.load().strategy("ce")
    strategy = StrategyRef(name="ce", distribution=entry.plugin.distribution, revision=entry.value.revision)
    cell = Cell(
        kind="student",
        data=data.ref,
        student=ModelRef.parse(model),
        teacher=None,
        strategy=strategy,
        recipe=recipe,
        seed=0,
    )
    student = create_model(cell.student, data.ref, data.mean, data.std)
    shapes = student.signature()
    setup = Setup(shapes, shapes, pair_stages(shapes, shapes), data.ref.num_classes, data.ref.fit)
    accelerator = make_accelerator(torch.device("cpu"), recipe.precision)
    with TemporaryDirectory() as folder:
        distiller = Distiller(student, entry.value(setup))
        watch.training = Training(cell, distiller, None, data, accelerator, Checkpoints(Path(folder)), watch)
        watch.training.run()
    ours, bare = watch.kdzoo_seconds[1:], watch.bare_seconds[1:]
    return {
        "kdzoo_images_per_second": round(batch * steps / statistics.median(ours), 1),
        "bare_images_per_second": round(batch * steps / statistics.median(bare), 1),
        "ratio": round(statistics.median(theirs / own for own, theirs in zip(ours, bare, strict=True)), 4),
    }


def main() -> None:
    """Measure; exit code 1 if the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet10t", help="a timm model")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--steps", type=int, default=20, help="steps in an epoch")
    parser.add_argument("--epochs", type=int, default=15, help="pairs of epochs")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images, pixels")
    parser.add_argument("--crop", type=int, default=0, help="padding of the random crop, pixels; 0 for none")
    parser.add_argument("--default", action="store_true", help="the bare loop in torch's default memory format")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args.model, args.batch, args.steps, args.epochs, args.size, args.crop, laid_out=not args.default)
    sys.exit(not tell("overhead", vars(args), result, {"ratio": (0.95, None)}))


if __name__ == "__main__":
    main()
