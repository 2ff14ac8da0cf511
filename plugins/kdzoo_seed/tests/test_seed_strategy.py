from __future__ import annotations

import copy
import doctest
from dataclasses import replace

import pytest
import torch
from seed_networks import CNN, VIT

from kdzoo import Outputs, PairError, Phase, UsageError
from kdzoo_seed import kdzoo_strategies, loss, memory
from kdzoo_seed.loss import similarity_distillation


@pytest.mark.parametrize("student", [CNN, VIT])
@pytest.mark.parametrize("teacher", [CNN, VIT])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_pair_and_batch_gives_a_finite_term_that_trains_student_and_projector(
    student, teacher, size, make, embedded, batch
):
    strategy = make(student, teacher)
    own, taught = embedded(student, size, trained=True), embedded(teacher, size)
    terms = strategy(own, taught, batch(list(range(size))))
    strategy.gradients(terms, lambda loss: loss.backward())
    assert set(terms) == {"similarity"}
    assert terms["similarity"].shape == ()
    assert terms["similarity"] >= 0
    for gradient in [own.embedding.grad, *(parameter.grad for parameter in strategy.parameters())]:
        assert gradient.isfinite().all()
        assert (gradient != 0).any()


def test_the_term_is_the_loss_against_the_queue_as_it_was(make, embedded, batch):
    strategy = make()
    own, taught = embedded(CNN, 4), embedded(VIT, 4)
    before = strategy.memory.embeddings.clone()
    term = strategy(own, taught, batch([3, 1, 4, 15]))["similarity"]
    nobody = torch.zeros(4, 20, dtype=torch.bool)
    projected = strategy.projector(own.embedding)
    torch.testing.assert_close(
        term, similarity_distillation(projected, taught.embedding, before, nobody, 0.2, 0.01), rtol=0, atol=0
    )
    assert strategy.memory.samples.tolist() == [3, 1, 4, 15] + [-1] * 16
    torch.testing.assert_close(strategy.memory.embeddings[4:], before[4:], rtol=0, atol=0)


def test_a_sample_does_not_meet_itself_from_an_epoch_ago(make, embedded, batch):
    strategy = make(samples=4)
    own, taught = embedded(CNN, 4), embedded(VIT, 4)
    strategy(own, taught, batch([0, 1, 2, 3]))
    kept = strategy.memory.embeddings.clone()
    term = strategy(own, taught, batch([0, 1, 2, 3]))["similarity"]
    projected = strategy.projector(own.embedding)
    rows = [
        similarity_distillation(
            projected[i : i + 1],
            taught.embedding[i : i + 1],
            torch.cat([kept[:i], kept[i + 1 :]]),
            torch.zeros(1, 3, dtype=torch.bool),
            0.2,
            0.01,
        )
        for i in range(4)
    ]
    torch.testing.assert_close(term, torch.stack(rows).mean())


@pytest.mark.parametrize(("queue", "samples", "length"), [(65536, 20, 20), (8, 20, 8), (1, 20, 1), (5, 1, 1)])
def test_the_queue_is_no_longer_than_the_training_set(queue, samples, length, make):
    assert len(make(samples=samples, queue=queue).memory) == length


def test_a_batch_longer_than_the_queue_serves(make, embedded, batch):
    strategy = make(queue=3)
    terms = strategy(embedded(CNN, 5, trained=True), embedded(VIT, 5), batch([0, 1, 2, 3, 4]))
    strategy.gradients(terms, lambda loss: loss.backward())
    assert strategy.memory.samples.sort().values.tolist() == [2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_precision_of_signals_and_weights(dtype, make, embedded, batch):
    for strategy in (make(), make().to(dtype)):
        own, taught = embedded(CNN, 4, dtype, trained=True), embedded(VIT, 4, dtype)
        for autocast in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                terms = strategy(own, taught, batch([0, 1, 2, 3]))
            strategy.gradients(terms, lambda loss: loss.backward())
            assert terms["similarity"].isfinite()
            assert terms["similarity"].dtype in (torch.float32, torch.float64)
        assert own.embedding.grad.isfinite().all()


def test_the_order_of_one_batch_does_not_matter(make, embedded, batch):
    first = make()
    second = copy.deepcopy(first)
    own, taught, order = embedded(CNN, 5), embedded(VIT, 5), torch.tensor([4, 2, 0, 1, 3])
    shuffled = [Outputs({"embedding": outputs.embedding[order]}) for outputs in (own, taught)]
    torch.testing.assert_close(second(*shuffled, batch([4, 2, 0, 1, 3])), first(own, taught, batch([0, 1, 2, 3, 4])))


def test_the_teacher_gets_no_gradient_and_is_not_changed(make, embedded, batch):
    strategy, taught = make(), embedded(VIT, 4)
    before = taught.embedding.clone()
    terms = strategy(embedded(CNN, 4, trained=True), taught, batch([0, 1, 2, 3]))
    strategy.gradients(terms, lambda loss: loss.backward())
    assert torch.equal(taught.embedding, before)
    assert taught.embedding.grad is None


def test_state_goes_through_a_checkpoint(make, embedded, batch):
    torch.manual_seed(1)
    first = make()
    first(embedded(CNN, 6), embedded(VIT, 6), batch(list(range(6))))
    torch.manual_seed(2)
    second = make()
    second.load_state_dict(first.state_dict())
    for step in range(4):
        own, taught, samples = embedded(CNN, 6), embedded(VIT, 6), [(6 * step + i) % 20 for i in range(6)]
        torch.testing.assert_close(
            second(own, taught, batch(samples)), first(own, taught, batch(samples)), rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("share", "epochs", "lengths"), [(0.5, 2, (1, 1)), (0.5, 10, (5, 5)), (0.01, 10, (1, 9)), (0.99, 3, (2, 1))]
)
def test_the_phases_share_the_epochs_out(share, epochs, lengths, make):
    first, second = make(share=share).phases(epochs)
    assert first == Phase("distil", lengths[0], hard_labels=False)
    assert second == Phase("main", lengths[1], trains="student", teacher=False)
    joint = make(share=share, main_weight=0.5).phases(epochs)[1]
    assert joint == Phase("main", lengths[1])


def test_one_epoch_is_too_few(make):
    with pytest.raises(UsageError, match=r"two phases, and the recipe has 1 epoch: give it 2 or more \(--epochs\)"):
        make().phases(1)


def test_the_main_phase_is_labels_alone_unless_weighted(make, embedded, batch):
    assert make()(embedded(CNN, 2), Outputs({}), batch([0, 1], "main")) == {}
    single, double = make(main_weight=1.0), make(main_weight=2.0)
    double.load_state_dict(single.state_dict())
    own, taught = embedded(CNN, 2), embedded(VIT, 2)
    once, twice = (strategy(own, taught, batch([0, 1], "main"))["similarity"] for strategy in (single, double))
    torch.testing.assert_close(twice, 2 * once)


def test_a_teacher_of_one_number_is_refused(make):
    with pytest.raises(PairError, match="choose another teacher"):
        make(teacher=replace(VIT, embedding=1))


def test_it_is_announced_with_a_card_and_a_search_space_that_holds_default_and_paper():
    (strategy,) = kdzoo_strategies()
    tuned = {name: spec for name, spec in strategy.hyperparameters().items() if spec.search}
    assert (strategy.name, len(tuned)) == ("seed", 4)
    assert {"Knowledge:", "Loss:", "Phases:", "Memory:", "Cost:", "Differs"} <= set(strategy.__doc__.split())
    for spec in tuned.values():
        values = [spec.default, spec.default if spec.paper is None else spec.paper]
        assert all(spec.search[0] <= value <= spec.search[1] for value in values)


@pytest.mark.parametrize("module", [loss, memory])
def test_the_examples_in_the_docstrings_are_right(module):
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=3)
