"""One step of a training, as the engine takes it, but for the optimizer's."""

from __future__ import annotations

from dataclasses import replace

from kdzoo.engine.devices import seed_everything
from kdzoo.engine.train import Training
from kdzoo.strategy import Phase, Terms
from kdzoo.testing.training import CPU


def step(training: Training, phase: Phase) -> Terms:
    """One step of a phase that was started, on the first batch, without the optimizer."""
    batches = training.data.train_batches(
        training.recipe, view=0, order_seed=1, device=CPU, views=training.strategy.views
    )
    batch = replace(next(batches), phase=phase.name, progress=0.9)
    seed_everything(99)
    training.set_modes(phase)
    training.optimizer.zero_grad()
    terms = training.model(batch, training.source.open(phase, 0)(batch), phase.hard_labels)
    training.strategy.gradients(terms, training.backward)
    return dict(terms)
