"""Which weights a teacher gets, and what names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from small_lab import prepare

from kdzoo.bench.teachers import choose_weights
from kdzoo.errors import UsageError
from kdzoo.models.weights import body_digest
from kdzoo.models.zoo import create_model
from kdzoo.refs import ModelRef


@pytest.mark.parametrize(
    ("name", "wanted", "classes", "chosen"),
    [
        ("resnet18", "auto", 10, "trained"),
        ("resnet18", "auto", 1000, "pretrained"),
        ("resnet18.a1_in1k", "auto", 10, "finetuned"),
        ("resnet18.a1_in1k", "train", 10, "trained"),
        ("resnet18.a1_in1k", "weights.safetensors", 10, "file"),
        ("resnet18", "pretrained", 1000, "pretrained"),
    ],
)
def test_the_name_and_the_classes_decide(name: str, wanted: str, classes: int, chosen: str) -> None:
    assert choose_weights(ModelRef(name=name), wanted, classes) == chosen


def test_pretrained_weights_of_other_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="were trained for 1000 classes, and 10 classes are needed"):
        choose_weights(ModelRef(name="resnet18"), "pretrained", 10)


def test_the_digest_sees_every_tensor_but_the_heads() -> None:
    model = timm.create_model("test_resnet", num_classes=10)
    digest = body_digest(model)
    with torch.no_grad():
        model.fc.weight.add_(1)
    assert body_digest(model) == digest
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    assert body_digest(model) != digest


def test_a_size_belongs_to_the_input_that_the_network_sees(tmp_path: Path) -> None:
    bench = prepare(tmp_path / "runs", [])
    lab = bench.lab
    (data,) = bench.plan.data.values()
    ref = ModelRef(name="test_resnet")
    small, large = (create_model(ref, data.ref, data.mean, data.std, own_input=own) for own in (False, True))
    assert large.input_size > small.input_size
    assert lab.size(ref, large, data).macs > lab.size(ref, small, data).macs
    assert lab.size(ref, small, data).macs < lab.size(ref, large, data).macs
