"""kdzoo against the loop that distillation repositories share, on the same soft-target work.

    OMP_NUM_THREADS=2 python benchmarks/plain_loop.py --teacher resnet50 --student mobilenetv3_small_050

The plain loop is written after what RepDistiller's ``train_student.py`` does (https://github.com/HobbitLong/RepDistiller):
PIL transforms in the workers of a loader, batches of 64, the teacher in the loop at every step, meters that read each
step's loss and accuracy, and a look at the test images after every epoch. kdzoo trains all cells by one command with
two workers; the wall time of that command counts, with its start, its bank, its checkpoints and its records. Both begin
with a trained teacher. They alternate: in each round the plain loop trains one student, whose seconds are multiplied by
the number of cells, and kdzoo trains all of them in a fresh copy of its store. The rounds' median ratio counts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import torch
import torch.nn.functional as F
from common import PLUGIN, run, tell
from patterns import Patterns
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdzoo import ArrayData

TEMPERATURE, ALPHA = 4.0, 0.9
MEAN = STD = (0.5, 0.5, 0.5)


class Images(Dataset[tuple[Tensor, int]]):
    """Images that are decoded, changed and normalised one by one."""

    def __init__(self, data: ArrayData, train: bool) -> None:
        self.images = [Image.fromarray(image.transpose(1, 2, 0)) for image in data.images]
        self.labels = [int(label) for label in data.labels]
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if train else []
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(self.images[place]), self.labels[place]


def right(logits: Tensor, labels: Tensor) -> float:
    """Share of samples whose first guess is right."""
    return (logits.argmax(1) == labels).float().mean().item()


def train_plainly(teacher: nn.Module, name: str, fit: Images, test: Images, epochs: int, loaders: int) -> float:
    """Seconds of one student's training."""
    began = time.perf_counter()
    student = timm.create_model(name, num_classes=10)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    train_loader = DataLoader(fit, batch_size=64, shuffle=True, num_workers=loaders)
    test_loader = DataLoader(test, batch_size=32, num_workers=loaders)
    for _ in range(epochs):
        student.train()
        teacher.eval()
        losses, hits = [], []
        for inputs, labels in train_loader:
            logits = student(inputs)
            with torch.no_grad():
                taught = teacher(inputs)
            soft = F.kl_div(
                F.log_softmax(logits / TEMPERATURE, dim=1),
                F.softmax(taught / TEMPERATURE, dim=1),
                reduction="batchmean",
            )
            loss = (1 - ALPHA) * F.cross_entropy(logits, labels) + ALPHA * TEMPERATURE**2 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            hits.append(right(logits, labels))
        student.eval()
        with torch.no_grad():
            for inputs, labels in test_loader:
                hits.append(right(student(inputs), labels))
    return time.perf_counter() - began


def main() -> None:
    """Measure; exit code 1 if the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--samples", type=int, default=2560, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--loaders", type=int, default=2, help="loader workers of the plain loop")
    parser.add_argument("--workers", default="2", help="as kdzoo bench takes it")
    parser.add_argument("--least", type=float, default=3.0, help="the bound; 0 for none")
    args = parser.parse_args()
    splits = Patterns(args.samples).load(None, False)
    assert isinstance(splits.train, ArrayData)
    assert isinstance(splits.test, ArrayData)
    fit = Images(splits.train.subset(np.arange(args.samples - args.samples // 10)), train=True)
    test = Images(splits.test, train=False)
    teacher = timm.create_model(args.teacher, num_classes=10)
    plain: list[float] = []
    ours: list[float] = []
    with TemporaryDirectory() as folder:
        pair = [
            *("bench", "--config", "quick", "--plugin", PLUGIN, "--dataset", f"patterns{args.samples}"),
            *("--teacher", args.teacher, "--student", args.student, "--teacher-epochs", "2", "--set"),
            *("recipe.batch_size=64", "--set", "recipe.augment.crop=4", "--set", "recipe.augment.flip=true"),
            *("--epochs", str(args.epochs), "--seeds", str(args.cells)),
        ]
        # The teacher and the baselines, which come along; so that the command below trains soft alone.
        base = Path(folder) / "base"
        run(*pair, "--strategies", "ce", "--workers", args.workers, "--out", base)
        for number in range(args.runs):
            plain.append(train_plainly(teacher, args.student, fit, test, args.epochs, args.loaders))
            store = shutil.copytree(base, Path(folder) / str(number))
            ours.append(run(*pair, "--strategies", "soft", "--workers", args.workers, "--out", store).seconds)
    result = {
        "speedup": round(statistics.median(one * args.cells / all_ for one, all_ in zip(plain, ours, strict=True)), 2),
        "plain_seconds_of_one": [round(value, 1) for value in plain],
        "kdzoo_seconds_of_all": [round(value, 1) for value in ours],
    }
    sys.exit(not tell("plain_loop", vars(args), result, {"speedup": (args.least, None)}))


if __name__ == "__main__":
    main()
