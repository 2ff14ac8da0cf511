"""The shapes of the signals of a few networks, for contract.md, measured on a batch."""

from __future__ import annotations

import torch
from reference import table
from torch import Tensor

from kdzoo.declarations import SIGNALS, pair_stages
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import create_model
from kdzoo.outputs import Classifier
from kdzoo.refs import DataRef, ModelRef

NETWORKS = ("resnet10t", "test_resnet", "test_vit:patch_size=4")
IMAGES = DataRef(
    name="colour", fingerprint="none", num_classes=10, channels=3, img_size=(32, 32), fit=80, tune=10, test=10
)
SAMPLES = 2


def network(name: str) -> TappedModel:
    """A network for colour images of 32 x 32 pixels and 10 classes, with random weights."""
    ones = (1.0,) * IMAGES.channels
    return create_model(ModelRef.parse(name), IMAGES, ones, ones).eval()


@torch.no_grad()
def shapes(model: TappedModel) -> dict[str, str]:
    """Each tensor that a strategy may read, and its shape; B stands for the samples of a batch."""
    outputs = model(torch.zeros(SAMPLES, IMAGES.channels, *IMAGES.img_size), SIGNALS)
    found: dict[str, str] = {}
    for signal, value in outputs.values.items():
        if isinstance(value, Classifier):
            found |= {f"classifier.{name}": _words(part, rows=False) for name, part in value._asdict().items()}
        elif isinstance(value, Tensor):
            found[signal] = _words(value)
        else:
            found |= {f"{signal}[{i}]": _words(part) for i, part in enumerate(value)}
    return found


def signal_shapes() -> str:
    """Two tables: the shapes of the signals of each network, and the aligned stages of each pair."""
    models = {name: network(name) for name in NETWORKS}
    found = {name: shapes(model) for name, model in models.items()}
    # The first network has the most stages, so that all of them stand in order.
    names = list(dict.fromkeys(signal for each in found.values() for signal in each))
    rows = [[f"`{signal}`", *(each.get(signal, "") for each in found.values())] for signal in names]
    pairs = [
        [
            f"`{teacher}`",
            f"`{student}`",
            str(list(pair_stages(models[student].signature(), models[teacher].signature()))),
        ]
        for teacher in NETWORKS
        for student in NETWORKS
        if teacher != student
    ]
    return "\n".join(
        [
            table(rows, ["signal", *(f"`{name}`" for name in NETWORKS)]),
            table(pairs, ["teacher", "student", "`stage_pairs`"]),
        ]
    )


def _words(tensor: Tensor | None, *, rows: bool = True) -> str:
    if tensor is None:
        return "None"
    sizes = [str(size) for size in tensor.shape]
    return " x ".join(["B", *sizes[1:]] if rows else sizes)
