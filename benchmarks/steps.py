"""What the rules for faster steps choose, against what they leave: optimizers' forms, memory formats, the order of
gradients, batches, compile; and rkd's angles against every vector and cosine.

    OMP_NUM_THREADS=1 python benchmarks/steps.py
    OMP_NUM_THREADS=1 python benchmarks/steps.py --parts compile --models test_resnet

Each part compares variants of the same work in alternating runs of one process and takes medians. The rules are
fixed (:mod:`kdzoo.engine.optim`, :mod:`kdzoo.models.memory_format`, :func:`kdzoo.engine.evaluate.batch_for`), because
runs must repeat bit for bit; this script tells whether they hold on another machine. ``--parts compile`` is not run
unless it is asked for: it compiles for minutes.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from common import tell
from tabulate import tabulate
from timm.optim import create_optimizer_v2, get_optimizer_class
from torch import Tensor, nn

from kdzoo.engine.evaluate import batch_for
from kdzoo.engine.optim import form_of
from kdzoo.models.memory_format import keep_format, lay_out, memory_format
from kdzoo.refs import DataRef
from kdzoo.testing.checks.cost import peak_bytes
from kdzoo_zoo.functional import relational_angle_loss
from kdzoo_zoo.tensors import in_memory_order

CPU = torch.device("cpu")
MODELS = "resnet10t,test_resnet,mobilenetv3_small_050,resnet18,densenet121,regnetx_002,test_vit,test_convnext"
OPTIMIZERS = "sgd,adamw,lamb,nadamw,lion"
FORMS: dict[str, dict[str, bool]] = {"loop": {"foreach": False}, "lists": {"foreach": True}, "fused": {"fused": True}}
BATCHES = (32, 64, 128, 256, 512)
Work = Callable[[], object]


def alternate(variants: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, after one run that does not count; every second round goes backwards."""
    for work in variants.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def milliseconds(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Medians."""
    return {name: round(1000 * statistics.median(each), 2) for name, each in seconds.items()}


def faster(seconds: dict[str, list[float]], chosen: str, other: str) -> float:
    """How many times as fast the first is as the second, median over the rounds."""
    return round(statistics.median(b / a for a, b in zip(seconds[chosen], seconds[other], strict=True)), 3)


def make(name: str, size: int) -> nn.Module:
    """A network for images of a size, where it asks for one; the weights are the same each time."""
    torch.manual_seed(0)
    sized: dict[str, Any] = {"img_size": size, "patch_size": 4} if "vit" in name else {}
    model: nn.Module = timm.create_model(name, num_classes=10, **sized)
    return model


def step_of(model: nn.Module, images: Tensor, labels: Tensor) -> Work:
    """Forward and backward pass in train mode."""
    model.train()

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        model.zero_grad()

    return step


def pass_of(model: nn.Module, images: Tensor, batch: int | None = None) -> Work:
    """Forward pass in eval mode."""
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            for part in images.split(batch or len(images)):
                model(part)

    return run


def forms(names: Sequence[str], optimizers: Sequence[str], rounds: int) -> dict[str, Any]:
    """Each form of each optimizer over the parameters of each network."""
    found: dict[str, Any] = {}
    for name in names:
        for optimizer in optimizers:
            known = inspect.signature(get_optimizer_class(optimizer, bind_defaults=False)).parameters.keys()
            usable = {form: values for form, values in FORMS.items() if values.keys() <= known}
            if not usable:
                continue
            works = {form: optimizer_step(make(name, 32), optimizer, values) for form, values in usable.items()}
            seconds = alternate(works, rounds)
            rule = form_of(optimizer, CPU, plain_gradients=True)
            chosen = next(form for form, values in usable.items() if values == rule)
            told = {"chosen": chosen, "faster": faster(seconds, chosen, "loop")}
            found[f"{name} {optimizer}"] = milliseconds(seconds) | told
    return found


def optimizer_step(model: nn.Module, optimizer: str, form: dict[str, Any]) -> Work:
    """One step, of gradients that stay."""
    lay_out(model, CPU)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    made = create_optimizer_v2(model, opt=optimizer, lr=1e-5, weight_decay=1e-3, momentum=0.9, **form)
    return made.step


def formats(names: Sequence[str], batch: int, size: int, rounds: int, dtype: torch.dtype) -> dict[str, Any]:
    """Train step and eval pass of each network in both memory formats. The crash that the rule avoids is not tried."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(0, 10, (batch,))
    found: dict[str, Any] = {}
    for name in names:
        plain, moved = make(name, size), make(name, size).to(memory_format=torch.channels_last)
        chosen = "channels_last" if memory_format(plain, CPU) is torch.channels_last else "contiguous"
        row: dict[str, Any] = {"chosen": chosen}
        for what in ("train", "eval"):
            works = {}
            for label, model in (("contiguous", plain), ("channels_last", moved)):
                work = step_of(model, images, labels) if what == "train" else pass_of(model, images)
                works[label] = autocast(work, dtype)
            seconds = alternate(works, rounds)
            row |= {f"{what} {label}": value for label, value in milliseconds(seconds).items()}
            row[f"{what} channels_last is faster"] = faster(seconds, "channels_last", "contiguous")
        found[name] = row
    return found


def gradients(names: Sequence[str], batch: int, size: int, rounds: int) -> dict[str, Any]:
    """The train step, and what a mean square over each map adds to it: with its gradients as autograd gives them, put
    in the order of the maps when they come back, and given in that order."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(0, 10, (batch,))
    found: dict[str, Any] = {}
    for name in names:
        model: Any = make(name, size).train()
        lay_out(model, CPU)
        targets = [torch.randn_like(each) for each in model.forward_intermediates(images)[1]]

        def step(kind: str, model: Any = model, targets: Sequence[Tensor] = targets) -> None:
            features, maps = model.forward_intermediates(images)
            loss = F.cross_entropy(model.forward_head(features), labels)
            if kind == "put in order":
                keep_format(maps)
            for one, other in zip(maps, targets, strict=True) if kind != "labels alone" else ():
                pair = in_memory_order(one, other) if kind == "in order" else (one, other)
                loss = loss + F.mse_loss(*pair)
            loss.backward()
            model.zero_grad()

        kinds = ("labels alone", "as autograd gives them", "put in order", "in order")
        seconds = alternate({kind: partial(step, kind) for kind in kinds}, 4 * rounds)  # small differences
        alone = seconds.pop(kinds[0])
        more = {kind: [a - b for a, b in zip(each, alone, strict=True)] for kind, each in seconds.items()}
        found[name] = milliseconds({kinds[0]: alone} | more)
        found[name]["put in order is faster"] = faster(seconds, kinds[2], kinds[1])
    return found


def angles(batches: Sequence[int], rounds: int) -> dict[str, Any]:
    """The angle term of rkd with its gradient, beside the form of the paper's authors; embeddings of 512."""

    def authors(student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (F.normalize(each[None] - each[:, None], dim=2) for each in (student, teacher))
        return F.smooth_l1_loss(ours @ ours.mT, theirs @ theirs.mT)

    found: dict[str, Any] = {}
    for batch in batches:
        student, teacher = torch.randn(batch, 512, requires_grad=True), torch.randn(batch, 512)
        works = {"kdzoo": partial(_differentiate, relational_angle_loss, student, teacher)}
        if batch <= 128:
            works["authors"] = partial(_differentiate, authors, student, teacher)
        memory = {f"{name} MiB": round(peak_bytes(work) / 2**20, 1) for name, work in works.items()}
        found[f"batch {batch}"] = milliseconds(alternate(works, rounds)) | memory
    return found


def _differentiate(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> None:
    torch.autograd.grad(loss(student, teacher), student)


def autocast(work: Work, dtype: torch.dtype) -> Work:
    """The work under autocast, unless it is float32."""

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not torch.float32):
            work()

    return run


def batches(names: Sequence[str], size: int, rounds: int) -> dict[str, Any]:
    """Images per second of the eval pass in batches of several sizes."""
    images = torch.rand(max(BATCHES), 3, size, size)
    parts = {"fit": 1, "tune": 1, "test": 1, "num_classes": 10, "channels": 3}
    data = DataRef(name="noise", fingerprint="0", img_size=(size, size), **parts)
    found: dict[str, Any] = {}
    for name in names:
        model = make(name, size)
        lay_out(model, CPU)
        seconds = alternate({str(batch): pass_of(model, images, batch) for batch in BATCHES}, rounds)
        rates = {batch: round(len(images) / statistics.median(each)) for batch, each in seconds.items()}
        found[f"{name} {size}"] = rates | {"chosen": batch_for(data, CPU)}
    return found


def precisions(names: Sequence[str], batch: int, size: int, rounds: int) -> dict[str, Any]:
    """The train step in float32 and under bfloat16 autocast."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(0, 10, (batch,))
    found: dict[str, Any] = {}
    for name in names:
        works = {}
        for label, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            model = make(name, size)
            lay_out(model, CPU)
            works[label] = autocast(step_of(model, images, labels), dtype)
        seconds = alternate(works, rounds)
        found[name] = milliseconds(seconds) | {"bf16 is faster": faster(seconds, "bf16", "fp32")}
    return found


def compiled(names: Sequence[str], batch: int, size: int, rounds: int) -> dict[str, Any]:
    """The train step with and without torch.compile, and how long its first step takes."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(0, 10, (batch,))
    found: dict[str, Any] = {}
    for name in names:
        works = {}
        for label in ("eager", "compiled"):
            model = make(name, size)
            lay_out(model, CPU)
            if label == "compiled":
                model.compile()
            works[label] = step_of(model, images, labels)
        began = time.perf_counter()
        works["compiled"]()
        first = round(time.perf_counter() - began, 1)
        seconds = alternate(works, rounds)
        faster_by = faster(seconds, "compiled", "eager")
        found[name] = milliseconds(seconds) | {"compiled is faster": faster_by, "seconds of the first step": first}
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """A table on standard error."""
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [[name, *(row.get(column, "") for column in columns)] for name, row in found.items()]
    print(f"\n{title}\n" + tabulate(rows, headers=["", *columns]), file=sys.stderr)


def judge(result: dict[str, Any]) -> dict[str, tuple[float, float | None]]:
    """Add the worst of what the rules chose; gives its bounds."""
    bounds: dict[str, tuple[float, float | None]] = {}
    if "forms" in result:
        result["worst_form"] = min(row["faster"] for row in result["forms"].values())
        bounds["worst_form"] = (1.0, None)
    if "formats" in result:
        laid_out = [row for row in result["formats"].values() if row["chosen"] == "channels_last"]
        result["worst_format_train"] = min(row["train channels_last is faster"] for row in laid_out)
        result["worst_format_eval"] = min(row["eval channels_last is faster"] for row in laid_out)
        bounds |= {"worst_format_train": (0.95, None), "worst_format_eval": (1.0, None)}
    if "gradients" in result:
        result["worst_gradients"] = min(row["put in order is faster"] for row in result["gradients"].values())
        bounds["worst_gradients"] = (0.98, None)
    if "angles" in result:
        rows = result["angles"].values()
        result["worst_angles"] = round(min(row["authors"] / row["kdzoo"] for row in rows if "authors" in row), 1)
        bounds["worst_angles"] = (1.0, None)
    if "batches" in result:
        shares = []
        for row in result["batches"].values():
            rates = {int(batch): rate for batch, rate in row.items() if batch != "chosen"}
            near = min(rates, key=lambda batch: abs(batch - row["chosen"]))
            shares.append(rates[near] / max(rates.values()))
        result["worst_batch"] = round(min(shares), 3)
        bounds["worst_batch"] = (0.75, None)
    return bounds


def main() -> None:
    """Measure; exit code 1 if a rule is far from the best choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts_default = "forms,formats,gradients,batches,precisions,angles"
    parser.add_argument("--parts", default=parts_default, help="and compile")
    parser.add_argument("--models", default=MODELS, help="timm models")
    parser.add_argument("--optimizers", default=OPTIMIZERS)
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images, pixels")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    names, size, rounds = args.models.split(","), args.size, args.rounds
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "forms": lambda: forms(names[:3], args.optimizers.split(","), rounds),
        "formats": lambda: formats(names, args.batch, size, rounds, torch.float32),
        "gradients": lambda: gradients(names[:4], args.batch, size, rounds),
        "angles": lambda: angles((64, 128, 256, 512), rounds),
        "batches": lambda: batches(names[:4], size, rounds) | batches(names[:4], 2 * size, rounds),
        "precisions": lambda: precisions(names[:3], args.batch, size, rounds),
        "compile": lambda: compiled(names[:2], args.batch, size, rounds),
    }
    result: dict[str, Any] = {}
    for part in args.parts.split(","):
        result[part] = parts[part]()
        show(part, result[part])
    print(file=sys.stderr)
    sys.exit(not tell("steps", vars(args), result, judge(result)))


if __name__ == "__main__":
    main()
