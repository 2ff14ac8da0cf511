from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps

from kdzoo import PairError
from kdzoo_zoo.feature.norm import ManyToOne
from kdzoo_zoo.functional import many_to_one_loss, normalize_logits, soft_target_loss


def naive(student_map, teacher_map, ratio):
    batch, _, height, width = student_map.shape
    channels = teacher_map.shape[1]
    tall, wide = teacher_map.shape[2] // height, teacher_map.shape[3] // width
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(batch):
        for i in range(ratio):
            for j in range(channels):
                for y in range(height):
                    for x in range(width):
                        window = teacher_map[b, j, y * tall : (y + 1) * tall, x * wide : (x + 1) * wide]
                        total = total + (student_map[b, i * channels + j, y, x] - window.max()) ** 2
                        count += 1
    return ratio * total / count


@pytest.mark.parametrize("ratio", [1, 3])
@pytest.mark.parametrize(("size", "larger"), [((2, 2), (2, 2)), ((1, 2), (1, 4)), ((2, 1), (4, 3)), ((1, 1), (1, 1))])
def test_equals_the_naive_loop(ratio, size, larger):
    student, teacher = maps(2, 2 * ratio, *size), maps(2, 2, *larger)
    assert_equals_naive(many_to_one_loss, naive, student_map=student, teacher_map=teacher, ratio=ratio)


def test_equals_the_value_computed_by_hand():
    # 2 x mean of 1 and 4.
    assert many_to_one_loss(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.zeros(1, 1, 1, 1), 2).item() == 5.0


def test_is_sound_and_zero_where_every_block_is_the_teachers():
    teacher = maps(2, 3, 4, 4)
    student = teacher.detach().repeat(1, 2, 1, 1).requires_grad_()

    def loss(student_map, teacher_map):
        return many_to_one_loss(student_map, teacher_map, 2)

    assert_sound(loss, student_map=maps(2, 6, 4, 4), teacher_map=teacher)
    found = loss(student, teacher)
    found.backward()
    assert found == 0
    assert not student.grad.any()


@pytest.mark.parametrize(
    "teacher", [(2, 2, 2, 2), (1, 3, 2, 2), (2, 3, 3, 2), (2, 3, 1, 1)], ids=["channels", "batch", "size", "smaller"]
)
def test_shapes_that_do_not_fit_are_refused(teacher):
    with pytest.raises(ValueError, match=r"channels|maps"):
        many_to_one_loss(torch.zeros(2, 6, 2, 2), torch.zeros(teacher), 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_normalised_logits_equal_the_naive_loop(classes):
    logits = torch.randn(3, classes, dtype=torch.float64) * 7
    for row, found in zip(logits.tolist(), normalize_logits(logits).tolist(), strict=True):
        mean = sum(row) / classes
        deviation = (sum((z - mean) ** 2 for z in row) / classes + 1e-7) ** 0.5
        assert found == pytest.approx([2.5 * (z - mean) / deviation for z in row])
    flat = torch.full((1, classes), 3.0, requires_grad=True)
    out = normalize_logits(flat)
    out.sum().backward()
    assert not out.any()
    assert flat.grad.isfinite().all()


@pytest.fixture
def make(setup):
    def made(**params):
        return ManyToOne(setup(teacher=((8, 8, 8), (12, 3, 3)), pooled=(True, False)), ratio=2, **params)

    return made


def test_the_student_predicts_through_its_two_layers(make, outputs):
    strategy = make().eval()
    student = outputs(strategy.setup.student, 4)
    last = student.stages[2]
    embedding = (last + strategy.contract(strategy.expand(last))).mean(dim=(2, 3))
    weight, bias = student.classifier
    torch.testing.assert_close(strategy.predict(student), normalize_logits(embedding @ weight.T + bias))
    assert strategy.deployed == ("expand", "contract")


def test_the_terms(make, outputs, step):
    strategy = make(kd=0.5, temperature=3.0, beta=2.0, ce=0.25)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    # 2 x 2 positions of the student against 3 x 3 of the teacher, which is max-pooled to windows that overlap.
    pooled = torch.nn.functional.adaptive_max_pool2d(teacher.stages[1], (2, 2))
    maps_term = 2 * many_to_one_loss(strategy.expand(student.stages[2]), pooled, 2)
    soft = 0.5 * soft_target_loss(strategy.predict(student), normalize_logits(teacher.logits), 3.0)
    torch.testing.assert_close(terms, {"maps": maps_term, "soft": soft})
    assert strategy.ce_weight == 0.25
    assert all(weight.grad is not None for weight in strategy.parameters())


def test_logits_of_the_teacher_are_kept_for_soft_targets_alone(make, outputs):
    teacher = outputs(make().setup.teacher, 4)
    assert set(make().reduce(teacher).values) == set(make().reduction()) == {"stages"}
    assert set(make(kd=1.0).reduce(teacher).values) == set(make(kd=1.0).reduction()) == {"stages", "logits"}


def test_pairs_that_it_cannot_serve_are_refused(setup):
    with pytest.raises(PairError, match="choose a student such as"):
        ManyToOne(setup())
    with pytest.raises(PairError, match=r"3 classes and the teacher 4: set norm\.kd=0, or"):
        ManyToOne(setup(classes=(3, 4), pooled=(True, False)), kd=1.0)
    with pytest.raises(PairError, match="needs a map of the teacher"):
        ManyToOne(setup(teacher=[], pooled=(True, False)))


def test_the_layers_run_once_in_a_step(make, outputs, batch):
    strategy = make(kd=1.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    apart = strategy(student, teacher, batch(4))
    before = strategy.expand[1].num_batches_tracked.item()
    strategy.predict(student)
    terms = strategy(student, teacher, batch(4))
    assert strategy.expand[1].num_batches_tracked.item() == before + 1
    torch.testing.assert_close(terms, apart)
    other = outputs(strategy.setup.student, 4, trained=True)
    strategy.predict(other)
    torch.testing.assert_close(strategy(student, teacher, batch(4)), apart)


def test_the_logits_are_computed_in_full_precision_under_autocast(make, outputs):
    strategy = make().eval()
    student = outputs(strategy.setup.student, 4)
    # What the two layers give is in bfloat16; from there on nothing is rounded.
    for layers in (strategy.expand, strategy.contract):
        for weight in layers.parameters():
            torch.nn.init.zeros_(weight)
    exact = strategy.predict(student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = strategy.predict(student)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
