"""Views: pure functions of (what is done, view number, sample id), equal to a loop over samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kdzoo import UsageError
from kdzoo.data.augment import augment
from kdzoo.data.hashing import mix
from kdzoo.recipe import Augment

ALL = Augment(crop=3, resized_crop=0.4, flip=True, rotate=20.0, erase=0.5)
SPECS = [
    Augment(crop=4, flip=True),
    Augment(rotate=30.0),
    Augment(resized_crop=0.3),
    Augment(erase=0.7),
    ALL,
]


def noise(count: int, channels: int = 3, height: int = 20, width: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_view_does_not_depend_on_the_batch(spec: Augment) -> None:
    images, ids = noise(37), torch.arange(37) * 11
    whole = augment(images, ids, 5, spec)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[order], ids[order], 5, spec), whole[order])
    single = [augment(images[i : i + 1], ids[i : i + 1], 5, spec) for i in range(37)]
    assert torch.equal(torch.cat(single), whole)
    assert torch.equal(augment(images[:9], ids[:9], 5, spec), whole[:9])
    assert torch.equal(augment(images, ids, torch.full((37,), 5), spec), whole)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_other_views_and_samples_look_different(spec: Augment) -> None:
    images = noise(1).expand(64, -1, -1, -1)
    first, second = (augment(images, torch.arange(64), view, spec) for view in (0, 1))
    assert (first != second).flatten(1).any(1).sum() > 16
    assert len({image.numpy().tobytes() for image in first}) > 16


def test_global_random_state_is_neither_used_nor_changed() -> None:
    images, ids = noise(8), torch.arange(8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(images, ids, 0, ALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augment(images, ids, 0, ALL), first)


def test_nothing_asked_gives_the_images() -> None:
    images = noise(4)
    result = augment(images, torch.arange(4), 0, Augment())
    assert result.dtype == torch.float32
    assert torch.equal((result * 255).round().to(torch.uint8), images)


def test_crop_and_flip_equal_a_loop_that_tries_every_window() -> None:
    pad = 2
    images = noise(400, channels=2, height=6, width=5)
    result = (augment(images, torch.arange(400), 3, Augment(crop=pad, flip=True)) * 255).round().to(torch.uint8)
    seen = set()
    for image, view in zip(images.numpy(), result.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        windows = {
            (top, left, flip): padded[:, top : top + 6, left : left + 5][:, :, :: -1 if flip else 1]
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for flip in (False, True)
        }
        found = [key for key, window in windows.items() if np.array_equal(window, view)]
        assert len(found) == 1
        seen.add(found[0])
    # All 50 windows occur among 400 views (the expected number of missing ones is 50 * 0.98^400 = 0.02).
    assert len(seen) == 50


def test_flips_are_even_and_crops_uniform() -> None:
    ramp = torch.arange(1, 10, dtype=torch.uint8).expand(20_000, 1, 9, 9)
    flipped = augment(ramp, torch.arange(20_000), 0, Augment(flip=True))[:, 0, 0, 0] * 255 > 5
    assert abs(flipped.float().mean() - 0.5) < 0.015
    left = (augment(ramp, torch.arange(20_000), 0, Augment(crop=2))[:, 0, 4, 4] * 255).round().long()
    shares = torch.bincount(left, minlength=10)[3:8] / 20_000
    assert (shares - 0.2).abs().max() < 0.015


def test_erasing_has_the_asked_probability_area_and_colour() -> None:
    images = torch.zeros(4000, 2, 32, 32, dtype=torch.uint8)
    colour = torch.tensor([0.25, 0.75])
    result = augment(images, torch.arange(4000), 0, Augment(erase=0.4), colour)
    erased = result[:, 0] > 0
    assert torch.equal(result[:, 1] > 0, erased)
    assert set(result[:, 0].unique().tolist()) == {0.0, 0.25}
    assert set(result[:, 1].unique().tolist()) == {0.0, 0.75}
    area = erased.flatten(1).float().mean(1)
    hit = area > 0
    assert abs(hit.float().mean() - 0.4) < 0.03
    assert area[hit].min() > 0.01
    assert area[hit].max() < 0.36
    assert abs(area[hit].mean() - (0.02 + 1 / 3) / 2) < 0.01
    # One solid rectangle: its rows times its columns.
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)
    assert torch.equal(rows * columns, erased.flatten(1).sum(1))


def test_rotation_turns_about_the_centre_by_at_most_the_asked_angle() -> None:
    size, count = 33, 500
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, :, 16, 16:] = 255  # a ray from the centre to the right
    result = augment(images, torch.arange(count), 0, Augment(rotate=25.0))[:, 0]
    assert (result[:, 16, 16] > 0.5).all()
    y, x = torch.meshgrid(torch.arange(size) - 16.0, torch.arange(size) - 16.0, indexing="ij")
    angles = torch.rad2deg(torch.atan2((result * y).flatten(1).sum(1), (result * x).flatten(1).sum(1)))
    assert angles.abs().max() < 26
    assert angles.max() > 20
    assert angles.min() < -20
    assert abs(angles.mean()) < 2


def test_rotation_keeps_shapes_on_wide_images() -> None:
    # The middle of a wide image holds a centred disc, which no rotation about the centre changes.
    y, x = torch.meshgrid(torch.arange(31) - 15.0, torch.arange(61) - 30.0, indexing="ij")
    disc = torch.sigmoid(10 - (x**2 + y**2).sqrt())
    images = (disc * 255).round().to(torch.uint8).expand(50, 1, 31, 61)
    result = augment(images, torch.arange(50), 0, Augment(rotate=180.0))
    assert (result[:, 0] - disc).abs().max() < 0.05


def test_resized_crop_shows_windows_of_the_asked_area_and_aspect() -> None:
    # A linear ramp stays linear under bilinear resampling: its slope gives the size of the window.
    height, width, count = 40, 60, 300
    ramp_x = torch.linspace(20, 200, width).round().to(torch.uint8).expand(count, 1, height, width)
    ramp_y = torch.linspace(20, 200, height).round().to(torch.uint8)[:, None].expand(count, 1, height, width)
    spec, ids = Augment(resized_crop=0.36), torch.arange(count)
    across = augment(ramp_x, ids, 0, spec)[:, 0, height // 2] * 255
    down = augment(ramp_y, ids, 0, spec)[:, 0, :, width // 2] * 255
    step_x, step_y = 180 / (width - 1), 180 / (height - 1)
    # Slopes between points away from the border; 1 is the whole width or height.
    wide = (across[:, 50] - across[:, 9]) / 41 / step_x
    high = (down[:, 32] - down[:, 7]) / 25 / step_y
    area = wide * high
    assert area.min() > 0.33
    assert area.max() < 1.03
    assert abs(area.mean() - 0.66) < 0.05
    aspect = (wide * width) / (high * height)
    full = (wide > 0.97) | (high > 0.97)  # clipped at the image's border
    assert aspect[~full].min() > 0.75 * 0.95
    assert aspect[~full].max() < 4 / 3 * 1.05
    # The border repeats: nothing outside the ramp's values comes in.
    assert across.min() >= 20 - 1e-3
    assert across.max() <= 200 + 1e-3
    # The windows reach the left and the right border, and are centred on average.
    assert across[:, 1].min() < 30
    assert across[:, -2].max() > 190
    assert abs(across.mean() - 110) < 4


def test_values_stay_in_range() -> None:
    result = augment(torch.full((500, 1, 16, 16), 255, dtype=torch.uint8), torch.arange(500), 0, ALL)
    assert result.min() >= 0
    assert result.max() <= 1


def test_mix_agrees_between_numpy_and_torch() -> None:
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 1000)
    assert torch.equal(mix(torch.from_numpy(keys)), torch.from_numpy(mix(keys)))


def test_auto_policies_are_refused_in_memory() -> None:
    with pytest.raises(UsageError, match=r"augment.auto=rand-m9 works on datasets read from files"):
        augment(noise(1), torch.arange(1), 0, Augment(auto="rand-m9"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_accelerator_makes_the_same_views(spec: Augment) -> None:
    images, ids = noise(37), torch.arange(37)
    on_gpu = augment(images.cuda(), ids.cuda(), 5, spec).cpu()
    difference = (on_gpu - augment(images, ids, 5, spec)).abs()
    # Resampling may round differently there; the choices are the same.
    assert difference.mean() < 1e-4
