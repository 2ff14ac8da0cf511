"""Which stages face each other, what networks cost, and how ``kdzoo pair`` shows it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from kdzoo import Signature, StageShape, UsageError
from kdzoo.cli.pair import pair, size_rows, stage_rows, stages_text
from kdzoo.declarations import Profile, pair_stages
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import profile_model
from kdzoo.refs import DataRef, ModelRef

Make = Callable[..., TappedModel]
MakeRef = Callable[..., DataRef]


def signature(stages: int) -> Signature:
    return Signature(tuple(StageShape(8 * i, 4, 4) for i in range(1, stages + 1)), 64, 10)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 3, ((0, 0), (1, 1), (2, 2))),
        (5, 4, ((1, 0), (2, 1), (3, 2), (4, 3))),
        (3, 6, ((0, 3), (1, 4), (2, 5))),
        (1, 4, ((0, 3),)),
    ],
)
def test_stages_are_paired_from_the_deepest(student: int, teacher: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert pair_stages(signature(student), signature(teacher)) == expected


def test_macs_of_a_cnn_by_hand(make_model: Make, data_ref: MakeRef) -> None:
    tapped = make_model("resnet18")
    macs = 0
    shapes: list[tuple[nn.Module, torch.Size]] = []
    for module in tapped.model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda layer, _, out: shapes.append((layer, out.shape)))
    tapped.eval()(torch.rand(1, 1, 32, 32), {"logits"})
    for layer, shape in shapes:
        macs += layer.weight[0].numel() * shape.numel()
    profile = profile_model(tapped, data_ref())
    assert profile == Profile(sum(p.numel() for p in tapped.model.parameters()), macs)


@pytest.mark.parametrize(
    ("text", "prefix", "positions"),
    [
        ("vit_tiny_patch16_224:patch_size=4:depth=2", 1, 0),
        # Gemma 4 cannot run without values; its positions, one-hot over 2 x 10240, are multiplied with their table.
        ("gemma4_vit_167m:depth=2:img_size=96", 0, 2 * 10240),
    ],
)
def test_attention_counts(text: str, prefix: int, positions: int, make_model: Make, data_ref: MakeRef) -> None:
    tapped = make_model(text)
    macs: list[int] = []
    for module in tapped.model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda layer, _, out: macs.append(layer.weight[0].numel() * out.numel()))
    tapped.eval()(torch.rand(1, 1, *tapped.input_size), {"logits"})
    _, height, width = tapped.signature().stages[-1]
    dim = tapped.signature().embedding
    length = height * width + prefix
    attention = 2 * (2 * length * length * dim)  # in each of two blocks: queries by keys, then by values
    expected = sum(macs) + attention + length * positions * dim
    assert profile_model(tapped, data_ref()).macs == pytest.approx(expected, rel=1e-5)


def test_frozen_parameters_count(make_model: Make, data_ref: MakeRef) -> None:
    tapped = make_model("test_resnet")
    before = profile_model(tapped, data_ref())
    tapped.requires_grad_(False)
    assert profile_model(tapped, data_ref()) == before
    assert before.parameters == sum(p.numel() for p in tapped.model.parameters())


def test_rows_show_unpaired_stages_alone() -> None:
    student, teacher = signature(2), signature(3)
    assert stage_rows(student, teacher, pair_stages(student, teacher)) == [
        ["paired", "teacher", "student"],
        ["", "stage 1: 8 x 4 x 4", ""],
        ["1", "stage 2: 16 x 4 x 4", "stage 1: 8 x 4 x 4"],
        ["2", "stage 3: 24 x 4 x 4", "stage 2: 16 x 4 x 4"],
        ["", "embedding: 64", "embedding: 64"],
        ["", "classes: 10", "classes: 10"],
    ]
    assert stage_rows(teacher, student, pair_stages(teacher, student))[1] == ["", "", "stage 1: 8 x 4 x 4"]


def test_sizes_show_the_compression() -> None:
    rows = size_rows(Profile(2_000, 300), Profile(5_000, 1_200))
    assert rows[1:] == [
        ["parameters", "5,000", "2,000", "2.50x"],
        ["MACs of an image", "1,200", "300", "4.00x"],
    ]


def test_text_of_a_planned_pair(data_ref: MakeRef) -> None:
    sides = {
        side: SimpleNamespace(signature=signature(2), profile=Profile(10 * (1 + i), 20))
        for i, side in enumerate(("student_plan", "teacher_plan"))
    }
    plan = SimpleNamespace(
        data=data_ref(),
        teacher=SimpleNamespace(model=ModelRef(name="resnet101")),
        student=ModelRef(name="resnet18"),
        stage_pairs=((0, 0), (1, 1)),
        **sides,
    )
    lines = stages_text(plan).splitlines()  # type: ignore[arg-type]
    assert lines[0] == "resnet101 -> resnet18 on some (1 x 32 x 32)"
    assert any(line.split() == ["parameters", "20", "10", "2.00x"] for line in lines)


@pytest.fixture
def run() -> Callable[..., str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(pair)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return call


def test_command_on_the_digits(run: Callable[..., str]) -> None:
    output = run("--teacher", "test_vit:patch_size=8", "--student", "test_resnet", "--img-size", "32")
    assert output.startswith("test_vit:patch_size=8 -> test_resnet on digits (1 x 32 x 32)\n")
    assert "stage 4: 64 x 4 x 4" in output
    assert "stage 5: 96 x 1 x 1" in output
    assert "embedding: 64" in output


def test_command_refuses_wrong_names_and_sizes(run: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="unknown model 'resnet1o1'"):
        run("--teacher", "resnet1o1", "--student", "resnet18")
    with pytest.raises(UsageError, match="size"):
        run("--teacher", "resnet18", "--student", "resnet18", "--img-size", "large")
    with pytest.raises(UsageError, match="unknown dataset 'digit'"):
        run("--teacher", "resnet18", "--student", "resnet18", "--dataset", "digit")
