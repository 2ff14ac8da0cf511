"""What ranks say to each other, by hand; and batch normalisation over two ranks against torch's on the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rank_pair import Pair
from timm.layers import BatchNormAct2d, EvoNorm2dB0
from torch import Tensor, nn

from kdzoo import Batch, Outputs, UsageError
from kdzoo.engine.division import Division, check_batch
from kdzoo.engine.norms import share_norms
from kdzoo.engine.world import ALONE, World, check_launcher
from kdzoo.outputs import Classifier
from kdzoo_zoo.adapters import BatchNorm

CPU = torch.device("cpu")


def _talk(world: World) -> dict[str, Any]:
    own = torch.full((2,), float(world.rank + 1), requires_grad=True)
    parts = world.gather(own)
    module = nn.BatchNorm1d(2)
    nn.init.constant_(module.weight, world.rank + 5.0)
    world.level(module)
    return {
        "who": (world.rank, world.size, world.leads),
        "gathered": [part.tolist() for part in parts],
        "live": [part.requires_grad for part in parts],
        "sum": world.add(torch.tensor([1.0, 10.0 * world.rank])).tolist(),
        "shared": world.share({"from": world.rank}),
        "led": world.lead(lambda: f"rank {world.rank}"),
        "collected": world.collect(f"of {world.rank}"),
        "after": world.after_leader(lambda: world.rank),
        "turns": list(world.turns(5)),
        "weight": module.weight.tolist(),
    }


def test_ranks_talk(pair: Pair) -> None:
    same = {
        "gathered": [[1.0, 1.0], [2.0, 2.0]],
        "sum": [2.0, 10.0],
        "shared": {"from": 0},
        "led": "rank 0",
        "collected": ["of 0", "of 1"],
        "weight": [5.0, 5.0],
    }
    first, second = pair.together(_talk)
    assert first == same | {"who": (0, 2, True), "live": [True, False], "after": 0, "turns": [0, 2, 4]}
    assert second == same | {"who": (1, 2, False), "live": [False, True], "after": 1, "turns": [1, 3]}


def test_one_process_is_a_world() -> None:
    told = _talk(ALONE)
    assert told == {
        "who": (0, 1, True),
        "gathered": [[1.0, 1.0]],
        "live": [True],
        "sum": [1.0, 0.0],
        "shared": {"from": 0},
        "led": "rank 0",
        "collected": ["of 0"],
        "after": 0,
        "turns": [0, 1, 2, 3, 4],
        "weight": [5.0, 5.0],
    }
    tensor = torch.ones(3)
    assert ALONE.gather(tensor)[0] is tensor
    assert ALONE.add(tensor) is tensor
    module = nn.BatchNorm2d(3)
    assert type(share_norms(module, ALONE, CPU)) is nn.BatchNorm2d


def _divide(world: World) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows 0..3 are the first views of four samples, 4..7 the second."""
    inputs = {"a": torch.arange(8.0)[:, None]}
    batch = Batch(inputs, *[torch.arange(8)] * 3)
    division = Division(world, views=2)
    own = division.rows(batch).inputs["a"].requires_grad_()
    weight = torch.ones(1, 1, requires_grad=True)
    given = Outputs({"logits": own, "stages": (own * 2,), "classifier": Classifier(weight, None)})
    whole = division.whole(given)
    assert whole.stages[0].flatten().tolist() == [2.0 * row for row in range(8)]
    # Row b counts b times; the classifier is used by every row.
    direct = whole.logits.detach() @ whole.classifier.weight.T
    ((whole.logits + direct) * batch.labels[:, None]).sum().backward()
    return own.detach(), whole.logits.detach(), own.grad, weight.grad


def test_rows_and_their_gradients(pair: Pair) -> None:
    for rank, (own, whole, gradient, direct) in enumerate(pair.together(_divide)):
        rows = [2 * rank, 2 * rank + 1, 4 + 2 * rank, 5 + 2 * rank]
        assert own.flatten().tolist() == rows
        assert whole.flatten().tolist() == list(range(8))
        assert gradient.flatten().tolist() == rows
        assert direct.item() == (140.0 if rank == 0 else 0.0)  # 0 + 1 + 4 + ... + 49, once


def _draw(world: World) -> tuple[list[float], list[float], list[float]]:
    division = Division(world, views=1)
    division.seed(7)
    torch.manual_seed(3)
    before = torch.rand(2)
    with division.own_draws():
        student = torch.rand(2)
    with division.own_draws():
        student = torch.cat([student, torch.rand(2)])
    return before.tolist(), student.tolist(), torch.rand(2).tolist()


def test_the_student_draws_from_a_stream_of_its_own_on_each_rank(pair: Pair) -> None:
    (a, mine, b), (c, theirs, d) = pair.together(_draw)
    torch.manual_seed(3)
    assert a + b == c + d == torch.rand(4).tolist()
    assert len({*mine, *theirs}) == 8


def test_batches_that_cannot_be_divided_are_refused() -> None:
    check_batch(6, World(0, 3))
    with pytest.raises(UsageError, match="a batch of 6 samples cannot be divided among 4 processes"):
        check_batch(6, World(0, 4))
    check_batch(6, World(0, 4), uneven=True)
    with pytest.raises(UsageError, match="a batch of 3 samples cannot be divided among 4 processes"):
        check_batch(3, World(0, 4), uneven=True)


def test_uneven_rows_count_by_their_number() -> None:
    batch = Batch(torch.arange(10.0), *[torch.arange(10)] * 3)  # two views of five samples
    parts = [Division(World(rank, 3), views=2).own(batch) for rank in range(3)]
    assert [part.inputs.tolist() for part, _ in parts] == [[0, 1, 5, 6], [2, 3, 7, 8], [4, 9]]
    assert [part.index.tolist() for part, _ in parts] == [part.inputs.tolist() for part, _ in parts]
    assert [share for _, share in parts] == pytest.approx([1.2, 1.2, 0.6])


NORMS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.BatchNorm1d(3), (6, 3)),
    "1d of sequences": (nn.BatchNorm1d(3), (6, 3, 5)),
    "2d": (nn.BatchNorm2d(3, momentum=0.3), (6, 3, 4, 2)),
    "2d, mean of all batches": (nn.BatchNorm2d(3, momentum=None), (6, 3, 4, 2)),
    "2d, not affine": (nn.BatchNorm2d(3, affine=False), (6, 3, 4, 2)),
    "2d, nothing tracked": (nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 4, 2)),
    "3d": (nn.BatchNorm3d(3), (4, 3, 2, 2, 2)),
    "with activation": (BatchNormAct2d(3, act_layer=nn.SiLU), (6, 3, 4, 2)),
    "with activation in place, not affine": (BatchNormAct2d(3, affine=False), (6, 3, 4, 2)),
}


def _inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    # A mean that is large against the deviation: sums of squares would lose the variance.
    return 30 + torch.randn(2, *shape, generator=draw), torch.randn(shape, generator=draw)


def _norm(world: World, name: str) -> dict[str, Any]:
    """Two batches forward and one back, then one in eval mode; each rank has its rows."""
    norm, shape = NORMS[name]
    norm = share_norms(norm, world, CPU).train()
    batches, weights = _inputs(shape)
    rows = slice(world.rank * shape[0] // world.size, (world.rank + 1) * shape[0] // world.size)
    norm(batches[0][rows])
    own = batches[1][rows].clone().requires_grad_()
    out = norm(own)
    (out * weights[rows]).sum().backward()
    for parameter in norm.parameters():
        world.add(parameter.grad)
    return {
        "out": out.detach(),
        "gradient": own.grad,
        "parameters": [parameter.grad for parameter in norm.parameters()],
        "state": {key: value.clone() for key, value in norm.state_dict().items()},
        "eval": norm.eval()(batches[0][rows]).detach(),
    }


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_those_of_the_whole_batch(name: str, pair: Pair) -> None:
    first, second = pair.together(_norm, name)
    whole = _norm(ALONE, name)
    # Without running statistics, a batch is measured by its own, and whole batches are dealt out to be measured.
    for key in ("out", "gradient", *(["eval"] if "running_mean" in whole["state"] else [])):
        joined = torch.cat([first[key], second[key]])
        torch.testing.assert_close(joined, whole[key], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(first["parameters"], whole["parameters"], rtol=1e-4, atol=1e-4)
    assert first["state"].keys() == whole["state"].keys()
    for key, value in whole["state"].items():
        torch.testing.assert_close(first["state"][key], value)
        assert torch.equal(first["state"][key], second["state"][key])


def _of_few_rows(world: World) -> tuple[Tensor, int]:
    """A batch of three rows with one value per channel: the second rank has one row, and no variance of its own."""
    norm = share_norms(BatchNorm(2), world, CPU).train()
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 7.0]])[:, :, None, None]
    own = rows if world.size == 1 else rows.tensor_split(2)[world.rank]
    return norm(own).detach(), int(norm.num_batches_tracked)


def test_a_rank_with_one_row_shares_the_statistics_of_all(pair: Pair) -> None:
    (first, tracked), (second, _) = pair.together(_of_few_rows)
    whole, _ = _of_few_rows(ALONE)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-4, atol=1e-5)
    assert tracked == 1


TYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float64)


def _of_all_types(world: World) -> list[list[Tensor]]:
    return [world.gather(torch.tensor([world.rank, 1]).to(dtype)) for dtype in TYPES]


def test_signals_of_every_type_are_gathered(pair: Pair) -> None:
    for found in pair.together(_of_all_types):
        for dtype, parts in zip(TYPES, found, strict=True):
            assert [part.dtype for part in parts] == [dtype, dtype]
            assert [part.tolist() for part in parts] == [[0, 1], [1, 1]]


class _Own(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize("layer", [EvoNorm2dB0(2), _Own(2)])
def test_norms_that_are_not_known_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UsageError, match=rf"{type(layer).__name__} \(1\).*run this cell in one process"):
        share_norms(nn.Sequential(nn.Identity(), layer), World(0, 2), CPU)


def test_a_launch_that_starts_one_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_launcher()
    # What `accelerate launch --cpu --num_processes 2` leaves to its one process.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(UsageError, match="--multi_gpu --num_processes N"):
        check_launcher()
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launcher()
