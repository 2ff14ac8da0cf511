"""What every built-in strategy keeps to."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from waiting import output_of
from zoo_pairs import (
    DISTILLING,
    MODIFIERS,
    NEEDED,
    STRATEGIES,
    mapped,
    rows,
    served,
    teaching_phase,
    trained_signals,
)

from kdzoo import Outputs, StageShape
from kdzoo.engine.norms import share_norms
from kdzoo.engine.world import World
from kdzoo_zoo import functional

every = pytest.mark.parametrize("name", STRATEGIES)
alone = pytest.mark.parametrize("name", ["ce", *DISTILLING])
distilling = pytest.mark.parametrize("name", DISTILLING)


def test_each_strategy_has_a_file_of_its_name():
    files = {kind.__module__.rpartition(".")[2] for kind in STRATEGIES.values()}
    assert files == set(STRATEGIES)
    assert MODIFIERS == ["ls", "sort"]


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


@alone
def test_reads_only_the_signals_it_declares(name, setup, outputs, batch):
    strategy = served(name, setup)
    seen = strategy.signals if strategy.teacher_signals is None else strategy.teacher_signals
    size = rows(strategy, 4)
    student, teacher = outputs(strategy.setup.student, size), outputs(strategy.setup.teacher, size)
    terms = strategy(only(student, strategy.signals), only(teacher, seen), batch(size, teaching_phase(strategy)))
    assert (not terms) == (name == "ce")


@distilling
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_terms_are_finite_scalars_in_every_precision(name, size, dtype, setup, outputs, step):
    strategy = served(name, setup, classes=(2, 2)).to(dtype)
    size = rows(strategy, size)
    student = outputs(strategy.setup.student, size, dtype, trained=True)
    terms = step(strategy, student, outputs(strategy.setup.teacher, size, dtype), teaching_phase(strategy))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    assert all(term.dtype == torch.promote_types(dtype, torch.float32) for term in terms.values())
    gradients = [x.grad for x in trained_signals(student, strategy.signals) if x.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@distilling
def test_half_precision_signals_meet_float32_adapters_with_and_without_autocast(name, setup, outputs, step):
    strategy = served(name, setup)
    student = outputs(strategy.setup.student, 4, torch.bfloat16, trained=True)
    teacher = outputs(strategy.setup.teacher, 4, torch.bfloat16)
    before = copy.deepcopy(strategy.state_dict())
    torch.manual_seed(1)
    plain = step(strategy, student, teacher, teaching_phase(strategy))
    strategy.load_state_dict(before)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = step(strategy, student, teacher, teaching_phase(strategy))
    slack = 2e-2 if list(strategy.parameters()) else 1e-6
    for term in plain:
        assert cast[term].dtype == torch.float32
        torch.testing.assert_close(cast[term], plain[term], rtol=slack, atol=0)


_IN_ANY_ORDER = [name for name in DISTILLING if not (STRATEGIES[name].order_dependent or STRATEGIES[name].stochastic)]


@pytest.mark.parametrize("name", _IN_ANY_ORDER)
def test_order_of_the_batch_does_not_matter(name, setup, outputs, batch):
    strategy = served(name, setup)
    student, teacher = outputs(strategy.setup.student, 6), outputs(strategy.setup.teacher, 6)
    order = torch.randperm(6)
    given = batch(6, teaching_phase(strategy))
    terms = strategy(student, teacher, given)
    student, teacher = (mapped(each, lambda each: each[order]) for each in (student, teacher))
    torch.testing.assert_close(strategy(student, teacher, given), terms)


@pytest.mark.parametrize("name", [name for name in DISTILLING if STRATEGIES[name].zero_when_equal])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(name, setup, outputs, step):
    pair = served(name, setup, teacher=((4, 8, 8), (6, 4, 4), (8, 2, 2))).setup
    pair = replace(pair, teacher=pair.student)
    student = outputs(pair.student, 6, trained=True)
    layer = type(student.classifier)(*(part.detach() for part in student.classifier))
    teacher = Outputs(dict(mapped(student, torch.Tensor.detach).values) | {"classifier": layer})
    strategy = STRATEGIES[name](pair, **NEEDED.get(name, {}))
    terms = step(strategy, student, teacher, teaching_phase(strategy))
    # Three powers of probabilities cancel in abkd, up to rounding.
    assert all(abs(term) <= (1e-5 if name == "abkd" else 0) for term in terms.values()), terms
    gradients = [x.grad for x in trained_signals(student, STRATEGIES[name].signals) if x.grad is not None]
    assert gradients
    for gradient in gradients:
        # The epsilon in the logarithms of pkt moves its minimum a little.
        slack = 1e-3 if name == "pkt" else 1e-6
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=slack)


@distilling
def test_state_goes_through_a_checkpoint(name, setup, outputs, batch):
    first, second = (served(name, setup).eval() for _ in range(2))
    second.load_state_dict(first.state_dict())
    student, teacher = outputs(first.setup.student, 4), outputs(first.setup.teacher, 4)
    found = []
    for strategy in (first, second):
        torch.manual_seed(1)
        found.append(strategy(student, teacher, batch(4, teaching_phase(strategy))))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in DISTILLING if STRATEGIES[name].per_sample])
def test_several_processes_share_the_statistics_of_its_adapters(name, setup):
    share_norms(served(name, setup), World(0, 2), torch.device("cpu"))


@distilling
def test_weight_decay_of_its_modules_stops_no_term(name, setup, outputs, batch):
    strategy = served(name, setup)
    modules = list(strategy.parameters())
    if not modules:
        pytest.skip("it trains nothing of its own")
    size, phase = rows(strategy, 4), teaching_phase(strategy)
    student = outputs(strategy.setup.student, size, trained=True)
    teacher = outputs(strategy.setup.teacher, size)
    optimizer = torch.optim.AdamW(modules, lr=0.01, weight_decay=0.1)
    pulls = []
    for _ in range(3):
        terms = strategy(student, teacher, batch(size, phase))
        pulls.append({term: pull(value, student, strategy.signals) for term, value in terms.items()})
        optimizer.zero_grad()
        sum(value for value in terms.values() if value.requires_grad).backward()
        optimizer.step()
    assert {term for term, value in pulls[0].items() if value} == {term for term, value in pulls[-1].items() if value}


def pull(term, student, signals) -> float:
    """The sum of the sizes of a term's gradients at the student's signals."""
    trained = list(trained_signals(student, signals))
    found = torch.autograd.grad(term, trained, retain_graph=True, allow_unused=True) if term.requires_grad else ()
    return sum(float(gradient.abs().sum()) for gradient in found if gradient is not None)


_ANY_MAPS = ["at", "fitnets", "reviewkd", "ickd", "afd", "mgd", "srrl", "fsp", "ft", "irg", "nst", "sp", "vid"]


@pytest.mark.parametrize("name", _ANY_MAPS)
def test_maps_of_transformers_serve_both_ways(name, setup, outputs, step):
    # Convolutional maps shrink from stage to stage, those of a ViT keep their size and width.
    cnn, vit = ((8, 8, 8), (16, 4, 4), (32, 2, 2)), ((12, 7, 7),) * 3
    for student_shapes, teacher_shapes in [(cnn, vit), (vit, cnn), (vit, vit)]:
        strategy = STRATEGIES[name](setup(student_shapes, teacher_shapes), **NEEDED.get(name, {}))
        assert strategy.setup.student.stages[0] == StageShape(*student_shapes[0])
        student = outputs(strategy.setup.student, 3, trained=True)
        terms = step(strategy, student, outputs(strategy.setup.teacher, 3), teaching_phase(strategy))
        assert all(term > 0 for term in terms.values())
