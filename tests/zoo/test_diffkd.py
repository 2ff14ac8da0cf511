from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from naive_compare import assert_same

from kdzoo import PairError
from kdzoo.testing import run_checks
from kdzoo_zoo.feature.diffkd import DiffusionKD
from kdzoo_zoo.feature.diffusion import Refiner, signal_levels
from kdzoo_zoo.functional import ddim_step, hint_loss, soft_target_loss

CNN, VIT = ((4, 8, 8), (6, 4, 4), (8, 2, 2)), ((12, 4, 4),) * 3


def naive_step(noisy, noise, level, next_level):
    clean = [(x - (1 - level) ** 0.5 * e) / level**0.5 for x, e in zip(noisy, noise, strict=True)]
    return torch.stack(
        [next_level**0.5 * c + (1 - next_level) ** 0.5 * e for c, e in zip(clean, noise, strict=True)]
    ).sum()


@pytest.mark.parametrize(("level", "following"), [(0.2, 0.5), (0.9999, 1.0), (0.5, 0.5)])
def test_a_step_equals_the_naive_loop(level, following):
    def stepped(noisy, noise):
        return ddim_step(noisy, noise, level, following).sum()

    def loop(noisy, noise):
        return naive_step(noisy, noise, level, following)

    assert_same(stepped, loop, torch.randn(5), torch.randn(5))


def test_steps_with_the_right_noise_lead_back_to_what_was_noised():
    clean, noise = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    level = 0.3
    noisy = level**0.5 * clean + (1 - level) ** 0.5 * noise
    for before, after in [(0.3, 0.6), (0.6, 1.0)]:
        noisy = ddim_step(noisy, noise, before, after)
    torch.testing.assert_close(noisy, clean)


def test_levels_and_schedule_are_those_of_the_authors():
    levels, product = signal_levels(), 1.0
    for step in range(1000):
        product *= 1 - (1e-4 + step * (0.02 - 1e-4) / 999)
        assert levels[step].item() == pytest.approx(product)
    schedule = Refiner(4, 6, steps=5, spatial=True).schedule
    assert [step for step, _, _ in schedule] == [400, 300, 200, 100, 0]
    assert schedule[0][1:] == (levels[400].item(), levels[300].item())
    assert schedule[-1][1:] == (levels[0].item(), 1.0)


@pytest.mark.parametrize("spatial", [True, False])
def test_the_refiner_is_the_loop_of_the_paper(spatial):
    refiner = Refiner(4, 6, steps=3, spatial=spatial).eval()
    x = torch.randn(2, 4, 3, 3) if spatial else torch.randn(2, 4, 1, 1)
    torch.manual_seed(3)
    refined = refiner(x)
    torch.manual_seed(3)
    features = refiner.adapter(x)
    share = refiner.noise_adapter(features)
    assert ((share > 0) & (share < 1)).all()
    noisy = torch.stack(
        [g * f + (1 - g) * n for g, f, n in zip(share, features, torch.randn_like(features), strict=True)]
    )
    for step, level, following in refiner.schedule:
        noise = refiner.denoiser(noisy + refiner.embedding.weight[step][:, None, None])
        clean = (noisy - math.sqrt(1 - level) * noise) / math.sqrt(level)
        noisy = math.sqrt(following) * clean + math.sqrt(1 - following) * noise
    torch.testing.assert_close(refined, refiner.projector(noisy), rtol=1e-4, atol=1e-4)


def test_the_noise_loss_is_the_error_of_the_predicted_noise():
    refiner = Refiner(4, 6, steps=5, spatial=True).eval()
    teacher = torch.randn(3, 6, 2, 2)
    torch.manual_seed(3)
    loss = refiner.noise_loss(teacher)
    torch.manual_seed(3)
    steps, noise = torch.randint(1000, (3,)), torch.randn(3, 6, 2, 2)
    errors = []
    for t, e, step in zip(teacher, noise, steps, strict=True):
        level = signal_levels()[step].float()
        noisy = level.sqrt() * t + (1 - level).sqrt() * e + refiner.embedding.weight[step][:, None, None]
        errors.append(F.mse_loss(refiner.denoiser(noisy[None])[0], e))
    torch.testing.assert_close(loss, torch.stack(errors).mean())


@pytest.mark.parametrize(("student", "teacher"), [(CNN, CNN), (CNN, VIT), (VIT, CNN), (VIT, VIT)])
def test_every_pair_has_the_five_terms(setup, outputs, step, student, teacher):
    strategy = DiffusionKD(setup(student, teacher), feature=2.0, soft=3.0, noise=0.5, reconstruction=0.25)
    own, theirs = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    torch.manual_seed(3)
    terms = step(strategy, own, theirs)
    size = tuple(min(a[-1][d], b[-1][d]) for a, b in [(student, teacher)] for d in (1, 2))
    pooled = [F.adaptive_avg_pool2d(outputs.stages[-1], size) for outputs in (own, theirs)]
    torch.manual_seed(3)
    latent, restored = strategy.autoencoder(pooled[1])
    assert latent.shape[1] == teacher[-1][0] // 2
    expected = {
        "feature": 2 * hint_loss(strategy.refiner(pooled[0]), latent.detach()),
        "noise": 0.5 * strategy.refiner.noise_loss(latent.detach()),
        "reconstruction": 0.25 * F.mse_loss(restored, pooled[1]),
    }
    refined = strategy.logit_refiner(own.logits[:, :, None, None]).flatten(1)
    expected["soft"] = 3 * soft_target_loss(refined, theirs.logits, 1.0)
    expected["logit_noise"] = 0.5 * strategy.logit_refiner.noise_loss(theirs.logits[:, :, None, None])
    torch.testing.assert_close(dict(terms), expected)
    assert all(weight.grad is not None for weight in strategy.parameters())
    assert own.logits.grad is not None
    assert own.stages[-1].grad is not None


def test_a_weight_of_zero_leaves_a_part_and_its_model_out(setup, outputs, step):
    pair = setup(classes=(3, 4))
    strategy = DiffusionKD(pair, soft=0.0)
    own, theirs = outputs(pair.student, 4, trained=True), outputs(pair.teacher, 4)
    assert set(step(strategy, own, theirs)) == {"feature", "noise", "reconstruction"}
    assert {name for name, _ in strategy.named_children()} == {"autoencoder", "refiner"}
    assert set(strategy.reduce(theirs).values) == set(strategy.reduction()) == {"map"}
    strategy = DiffusionKD(setup(student=[]), feature=0.0)
    assert {name for name, _ in strategy.named_children()} == {"logit_refiner"}
    assert set(strategy.reduce(theirs).values) == set(strategy.reduction()) == {"logits"}


def test_what_was_kept_gives_the_same_terms(setup, outputs, batch):
    strategy = DiffusionKD(setup(CNN, VIT)).eval()
    own, theirs = (outputs(n, 4) for n in (strategy.setup.student, strategy.setup.teacher))
    kept = strategy.reduce(theirs)
    assert strategy.reduction() == {"logits": "logits", "map": "stages.2 pooled to 2x2"}
    found = []
    for given in (kept, theirs):
        torch.manual_seed(1)
        found.append(strategy(own, given, batch(4)))
    assert found[0] == found[1]


def test_pairs_that_it_cannot_serve_are_refused(setup):
    with pytest.raises(PairError, match=r"3 classes and the teacher 4: set diffkd\.soft=0, or"):
        DiffusionKD(setup(classes=(3, 4)))
    with pytest.raises(PairError, match=r"set diffkd\.feature=0"):
        DiffusionKD(setup(student=[]))


def test_the_kit_knows_that_logits_through_untrained_layers_show_no_certainty():
    found = run_checks(DiffusionKD, {"feature": 0.0}, only=("argument-order",))[-1]
    assert found.status == "ok"
    assert "soft has layers of its own" in found.text
