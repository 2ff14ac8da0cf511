"""What every built-in strategy keeps to."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from waiting import output_of

import kdzoo_zoo
from kdzoo import Outputs, Setup, StageShape
from kdzoo_zoo import functional

STRATEGIES = {strategy.name: strategy for strategy in kdzoo_zoo.kdzoo_strategies()}
DISTILLING = sorted(set(STRATEGIES) - {"ce"})
every = pytest.mark.parametrize("name", STRATEGIES)
distilling = pytest.mark.parametrize("name", DISTILLING)


def test_the_strategies_are_offered():
    assert list(STRATEGIES) == ["ce", "soft", "fitnets", "at", "rkd", "ban", "takd", "dml"]


def test_finding_the_plugin_does_not_import_torch():
    code = "import sys, kdzoo_zoo; sys.exit('torch' in sys.modules)"
    output_of(sys.executable, "-P", "-c", code)


@every
def test_has_a_card_and_a_small_search_space(name):
    strategy = STRATEGIES[name]
    tuned = {key: spec for key, spec in strategy.hyperparameters().items() if spec.search}
    assert strategy.__doc__
    assert (strategy.paper is None) == (name == "ce")
    assert all(spec.help for spec in strategy.hyperparameters().values())
    assert len(tuned) <= 5
    assert all(spec.search[0] <= spec.default <= spec.search[1] for spec in tuned.values())


@pytest.mark.parametrize("name", functional.__all__)
def test_functions_name_their_source(name):
    text = getattr(functional, name).__doc__
    assert all(word in text for word in ("Equation", "Args:", "Returns:", "Precision:", "Source:"))


def only(outputs: Outputs, signals) -> Outputs:
    return Outputs({signal: outputs.values[signal] for signal in signals})


def trained_signals(student: Outputs, signals):
    for signal in signals:
        value = student.values[signal]
        yield from value if isinstance(value, tuple) else (value,)


@every
def test_reads_only_the_signals_it_declares(name, setup, outputs, batch):
    strategy = STRATEGIES[name](setup())
    seen = strategy.signals if strategy.teacher_signals is None else strategy.teacher_signals
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    terms = strategy(only(student, strategy.signals), only(teacher, seen), batch(4))
    assert (not terms) == (name == "ce")


@distilling
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_terms_are_finite_scalars_in_every_precision(name, size, dtype, setup, outputs, step):
    strategy = STRATEGIES[name](setup(classes=(2, 2))).to(dtype)
    student = outputs(strategy.setup.student, size, dtype, trained=True)
    terms = step(strategy, student, outputs(strategy.setup.teacher, size, dtype))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    assert all(term.dtype == torch.promote_types(dtype, torch.float32) for term in terms.values())
    gradients = [x.grad for x in trained_signals(student, strategy.signals) if x.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@distilling
def test_half_precision_signals_meet_float32_adapters_with_and_without_autocast(name, setup, outputs, step):
    strategy = STRATEGIES[name](setup())
    student = outputs(strategy.setup.student, 4, torch.bfloat16, trained=True)
    teacher = outputs(strategy.setup.teacher, 4, torch.bfloat16)
    plain = step(strategy, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = step(strategy, student, teacher)
    for term in plain:
        assert cast[term].dtype == torch.float32
        torch.testing.assert_close(cast[term], plain[term], rtol=1e-2 if name == "fitnets" else 1e-6, atol=0)


@distilling
def test_order_of_the_batch_does_not_matter(name, setup, outputs, batch):
    strategy = STRATEGIES[name](setup())
    student, teacher = outputs(strategy.setup.student, 6), outputs(strategy.setup.teacher, 6)
    order = torch.randperm(6)

    def shuffled(signals: Outputs) -> Outputs:
        values = signals.values.items()
        return Outputs({k: tuple(x[order] for x in v) if isinstance(v, tuple) else v[order] for k, v in values})

    terms = strategy(student, teacher, batch(6))
    torch.testing.assert_close(strategy(shuffled(student), shuffled(teacher), batch(6)), terms)


@pytest.mark.parametrize("name", sorted(set(DISTILLING) - {"fitnets"}))
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(name, setup, outputs, step):
    pair: Setup = setup(teacher=((4, 8, 8), (6, 4, 4), (8, 2, 2)))
    pair = replace(pair, teacher=pair.student)
    student = outputs(pair.student, 6, trained=True)
    stages = tuple(stage.detach() for stage in student.stages)
    teacher = Outputs({"logits": student.logits.detach(), "stages": stages, "embedding": student.embedding.detach()})
    terms = step(STRATEGIES[name](pair), student, teacher)
    assert all(term == 0 for term in terms.values())
    for signal in trained_signals(student, STRATEGIES[name].signals):
        torch.testing.assert_close(signal.grad, torch.zeros_like(signal), rtol=0, atol=1e-6)


@distilling
def test_state_goes_through_a_checkpoint(name, setup, outputs, batch):
    first, second = (STRATEGIES[name](setup()).eval() for _ in range(2))
    second.load_state_dict(first.state_dict())
    student, teacher = outputs(first.setup.student, 4), outputs(first.setup.teacher, 4)
    torch.testing.assert_close(second(student, teacher, batch(4)), first(student, teacher, batch(4)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["at", "fitnets"])
def test_maps_of_transformers_serve_both_ways(name, setup, outputs, step):
    # Convolutional maps shrink from stage to stage, those of a ViT keep their size and width.
    cnn, vit = ((8, 8, 8), (16, 4, 4), (32, 2, 2)), ((12, 7, 7),) * 3
    for student_shapes, teacher_shapes in [(cnn, vit), (vit, cnn), (vit, vit)]:
        strategy = STRATEGIES[name](setup(student_shapes, teacher_shapes))
        assert strategy.setup.student.stages[0] == StageShape(*student_shapes[0])
        student = outputs(strategy.setup.student, 3, trained=True)
        terms = step(strategy, student, outputs(strategy.setup.teacher, 3))
        assert all(term > 0 for term in terms.values())


def _public_terms(strategy, student: Outputs, teacher: Outputs) -> dict[str, torch.Tensor]:
    """The terms of a strategy from the public functions alone."""
    match strategy.name:
        case "soft" if strategy.joins:
            top = functional.top_logits(teacher.logits, strategy.top_k, strategy.temperature)
            loss = functional.top_soft_target_loss(student.logits, top, strategy.temperature)
            return {"soft": strategy.alpha * loss}
        case "soft":
            loss = functional.soft_target_loss(student.logits, teacher.logits, strategy.temperature)
            return {"soft": strategy.alpha * loss}
        case "takd":
            loss = functional.soft_target_loss(student.logits, teacher.logits, strategy.temperature)
            return {"soft": strategy.alpha * loss}
        case "ban":
            return {"soft": functional.soft_target_loss(student.logits, teacher.logits, 1.0)}
        case "dml":
            return {"mutual": functional.soft_target_loss(student.logits, teacher.logits, 1.0)}
        case "at":
            pairs = [(student.stages[s], teacher.stages[t]) for s, t, _ in strategy.compared]
            losses = [functional.attention_transfer_loss(*maps, strategy.power) for maps in pairs]
            return {"attention": strategy.beta * torch.stack(losses).sum()}
        case "fitnets":
            adapted = strategy.adapter(student.stages[strategy.student_stage])
            return {"hint": strategy.beta * functional.hint_loss(adapted, teacher.stages[strategy.teacher_stage])}
    pair = student.embedding, teacher.embedding
    distance, angle = functional.relational_distance_loss(*pair), functional.relational_angle_loss(*pair)
    return {"distance": strategy.distance * distance, "angle": strategy.angle * angle}


@pytest.mark.parametrize("kept", [False, True], ids=["signals", "reduced"])
@pytest.mark.parametrize(("name", "params"), [*((name, {}) for name in DISTILLING), ("soft", {"top_k": 1})])
def test_the_terms_are_the_public_losses_bit_for_bit(name, params, kept, setup, outputs, batch):
    strategy = STRATEGIES[name](setup(), **params)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    leaves = list(trained_signals(student, strategy.signals))
    given = strategy.reduce(teacher) if kept else teacher
    found = []
    for terms in (strategy(student, given, batch(4)), _public_terms(strategy, student, teacher)):
        gradients = [
            gradient
            for term in terms.values()
            for gradient in torch.autograd.grad(
                term, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        ]
        found.append((terms, gradients))
    (own, slopes), (public, others) = found
    assert own == public
    assert all(map(torch.equal, slopes, others))
