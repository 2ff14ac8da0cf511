"""The one training loop, for every strategy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.utils import clip_grad_norm_

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Phase
from kdzoo.engine.balance import Balancer
from kdzoo.engine.bank.signal_sources import GiveSignals, OnTheFly, SignalSource
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.engine.course import Course, Feed, PrunedError, Stop, Tally, Watch, finish, own_feed
from kdzoo.engine.devices import AcceleratorBackward, Clock, seed_everything
from kdzoo.engine.distiller import Deployment, Distiller, with_variants
from kdzoo.engine.division import DividedBackward, Division, OverlappedBackward, overlapped, overlaps
from kdzoo.engine.evaluate import Evaluation, measure
from kdzoo.engine.optim import has_plain_gradients, load_optimizer, make_average, make_optimizer, make_schedule
from kdzoo.engine.teacher_survey import survey_teacher, surveys
from kdzoo.engine.world import ALONE
from kdzoo.errors import KdzooError, LeftError
from kdzoo.measures import main_of
from kdzoo.models.memory_format import lay_out
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Batch
from kdzoo.record_parts import Epoch, line_in_todays_form
from kdzoo.strategy import Terms


class Training:
    """The training of one cell: the loop, and the state that a checkpoint keeps.

    Every epoch draws from seeds of its own and ends in a checkpoint, so a run that was killed and taken up again
    ends exactly as one that was not.

    Args:
        cell: what is trained.
        distiller: student and strategy, freshly built.
        teacher: the frozen teacher, or None.
        data: the opened dataset.
        accelerator: device and precision.
        checkpoints: where the state is kept; training goes on from the newest one.
        watch: who is told of steps and epochs.
        stop: who may end the training early; nobody by default.
        source: gives the teacher's signals; by default the teacher runs on each batch.
        feed: gives the batches; by default they are made for this training alone.
        division: how each batch is divided among the processes that train together; None where there is one alone.
        eval_every: after how many epochs tune is measured; after the last one it always is.
    """

    def __init__(
        self,
        cell: Cell,
        distiller: Distiller,
        teacher: Teacher | None,
        data: LoadedData,
        accelerator: Accelerator,
        checkpoints: Checkpoints,
        watch: Watch,
        stop: Stop | None = None,
        source: SignalSource | None = None,
        feed: Feed | None = None,
        division: Division | None = None,
        eval_every: int = 1,
    ) -> None:
        self.cell, self.recipe, self.data, self.watch, self.stop = cell, cell.recipe, data, watch, stop
        self.accelerator, self.checkpoints = accelerator, checkpoints
        # Of several processes on a CPU, accelerate numbers theirs, and torch.load knows no such device.
        self.device = torch.device("cpu") if accelerator.device.type == "cpu" else accelerator.device
        self.distiller, self.strategy, self.teacher = distiller, distiller.strategy, teacher
        self.division, self.eval_every = division, eval_every
        self.world = division.world if division else ALONE
        self.overlaps = division is not None and overlaps(type(distiller.strategy))
        self.last: Evaluation | None = None
        self.source = source or OnTheFly(teacher, self.strategy)
        lay_out(distiller.student.model, self.device, beside=self.strategy)
        if distiller.peer is not None:
            lay_out(distiller.peer.model, self.device)
        # Accelerate would wrap it for gradients that are averaged once a step, whatever the strategy needs.
        self._prepared = accelerator.prepare_model(distiller, evaluation_mode=self.world.size > 1)
        self.model: Callable[..., Terms] = self._prepared
        self.world.level(distiller)
        self.live = Deployment(distiller.student, self.strategy)
        self.average = make_average(self.live, self.recipe)
        self.measured: Deployment = self.average.module if self.average else self.live
        self.peer = self.peer_average = None
        if distiller.peer is not None:
            self._peer_live = Deployment(distiller.peer, self.strategy)
            self.peer_average = make_average(self._peer_live, self.recipe)
            self.peer = self.peer_average.module if self.peer_average else self._peer_live
        self.feed = feed or own_feed(cell, data, self.strategy.views, self.device)
        self.steps = data.steps_per_epoch(self.recipe)
        phases = self.strategy.phases(self.recipe.epochs)
        self.plan = [(phase, n) for phase in phases for n in range(phase.epochs)]
        self.end = len(self.plan)
        if cell.until:  # a rung: the phases before the main one, and its share of that
            self.end -= (self.recipe.epochs - cell.until) * phases[-1].epochs // self.recipe.epochs
        self.trainable = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
        self.curve: list[Epoch] = []
        self.seconds = {"train": 0.0, "teacher": 0.0, "evaluate": 0.0, "bank": 0.0}
        self.balancer = Balancer(cell.balance, distiller, accelerator, self.world, self.device)
        self._elsewhere = 0.0

    def run(self) -> Deployment:
        """:meth:`course` from its beginning to its end."""
        return finish(self.course())

    def course(self) -> Course[Deployment]:
        """Train to the last epoch, of a rung to its end; returns what is measured and kept.

        It rests before each step, so that other trainings can take one meanwhile. Whoever goes on with it sees to it
        that the global generators are as it left them.

        Yields:
            The number of the step that comes next, counted over all epochs.

        Raises:
            NonFiniteLossError: a term was NaN or infinite in an epoch.
            PrunedError: ``stop`` ended it.
        """
        self._resume()
        if not self.curve:
            self.survey()
        for number in range(len(self.curve), self.end):
            # Asked before the epoch, so that a run which was killed while it asked is asked again.
            if self.stop and self.curve and (reason := self.stop(self.curve)):
                raise PrunedError(reason)
            phase, local = self.plan[number]
            if local == 0:
                self.start_phase(phase)
            with self.timed("bank"):
                signals_of = self.source.open(phase, self.recipe.view(number))
            with self.timed("train"):
                terms, rate = yield from self.train_epoch(number, signals_of)
            self.distiller.refuse_late()
            skipped = (number + 1) % self.eval_every and number + 1 < self.end
            self.last = None if skipped else self.on_tune()
            main = main_of(self.data.measures).name
            tune = None if self.last is None else {main: self.last.scores[main]}
            line = Epoch(epoch=number, phase=phase.name, terms=terms, lr=rate, tune=tune)
            self.curve.append(line)
            self.checkpoints.save(len(self.curve), self._state())
            self.watch.epoch(line, self.end)
        return self.measured

    def survey(self) -> None:
        """Let the strategy find statistics of the teacher, where it asks for that; each rank does it all."""
        if not surveys(self.strategy):
            return
        seed_everything(self.cell.seed_for("survey"))
        clock, autocast = Clock(self.device), self.accelerator.autocast
        with self.timed("train"), clock.section():
            survey_teacher(self.strategy, self.teacher, self.data, self.device, self.source, autocast)
        self.seconds["teacher"] += clock.seconds()
        self.world.level(self.distiller)
        if self.average:  # what is deployed may have been filled
            self.average = make_average(self.live, self.recipe)
            self.measured = self.average.module if self.average else self.live

    def on_tune(self) -> Evaluation:
        """How well it does on tune now."""
        with self.timed("evaluate"):
            return measure(self.measured, self.strategy, self.data, "tune", self.device, self.world)

    def train_epoch(self, number: int, signals_of: GiveSignals) -> Course[tuple[dict[str, float], float]]:
        """One epoch; returns the mean of each term and the learning rate of the last step."""
        phase, local = self.plan[number]
        teacher_clock, tally = Clock(self.device), Tally()
        seed_everything(self.cell.seed_for(f"epoch {number}"))
        if self.division:
            self.division.seed(self.cell.seed_for(f"student in epoch {number}"))
        self.set_modes(phase)
        batches = self.feed(number)
        for step in range(self.steps):
            yield from self._rest(number * self.steps + step)
            progress = (number + step / self.steps) / len(self.plan)
            moment: dict[str, Any] = {"progress": progress, "epoch": number, "epochs": len(self.plan)}
            batch = dataclasses.replace(next(batches), phase=phase.name, **moment)
            batch = with_variants(self.strategy, self.balancer.told(batch, number - local, phase))
            terms = self.balancer(self._terms(batch, signals_of, phase, teacher_clock))
            self.strategy.gradients(terms, self.backward)
            if self.recipe.clip_grad:
                self.accelerator.unscale_gradients(self.optimizer)
                for parameters in self.distiller.clipped_together(self.backward.parameters):
                    clip_grad_norm_(parameters, self.recipe.clip_grad)
            self.schedule.step_update(local * self.steps + step)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average:
                self.average.update(self.live, step=number * self.steps + step + 1)
            if self.peer_average:
                self.peer_average.update(self._peer_live, step=number * self.steps + step + 1)
            tally.add(terms)
            self.watch.step(number, step + 1, self.steps)
        self.seconds["teacher"] += teacher_clock.seconds()
        self.seconds |= self.balancer.cost(self.seconds)
        means = tally.means(self.steps, f"epoch {number} (phase {phase.name})", self.world if self.overlaps else ALONE)
        return means, max(group["lr"] for group in self.optimizer.param_groups)

    def _terms(self, batch: Batch, signals_of: GiveSignals, phase: Phase, teacher_clock: Clock) -> Terms:
        """The terms of a batch; where gradients are overlapped, this rank's part of them."""
        share = 1.0
        if self.overlaps and self.division:
            batch, share = self.division.own(batch)
        with teacher_clock.section(), self.accelerator.autocast():
            taught = signals_of(batch)
        with self.division.own_draws() if self.overlaps and self.division else nullcontext():
            terms = self.model(batch, taught, phase.hard_labels)
        return terms if share == 1.0 else {name: term * share for name, term in terms.items()}

    def set_modes(self, phase: Phase) -> None:
        """What a phase does not train stands still: its parameters, and its normalisation statistics too."""
        self.distiller.train(phase.trains == "both")
        self.distiller.trained_by(phase).train()

    def start_phase(self, phase: Phase) -> None:
        """From here on only what the phase trains asks for gradients, with an optimizer and a schedule of its own."""
        trained = {id(parameter) for parameter in self.distiller.trained_by(phase).parameters()}
        for parameter in self.trainable:
            parameter.requires_grad_(id(parameter) in trained)
        parameters = tuple(parameter for parameter in self.trainable if parameter.requires_grad)
        if not parameters:
            raise KdzooError(f"the phase {phase.name!r} of {self.strategy.name} trains no parameter")
        if self.overlaps:
            self.model = self._prepared  # what was wrapped for the phase before lets go of the parameters first
            self.model = overlapped(self._prepared, self.world)
            self.backward: AcceleratorBackward = OverlappedBackward(self.accelerator, parameters)
        elif self.division:
            self.backward = DividedBackward(self.accelerator, parameters, self.world, self.strategy)
        else:
            self.backward = AcceleratorBackward(self.accelerator, parameters)
        plain = has_plain_gradients(type(self.strategy))
        made = make_optimizer(self.distiller, self.recipe, plain_gradients=plain)
        optimizer = self.strategy.optimizer(made, self.recipe)
        self.schedule = make_schedule(optimizer, self.recipe, phase.epochs, self.steps)
        # The wrapper serves the scaler; beside it, each of its steps looks for a package on the disk (0.4 ms).
        self.optimizer = self.accelerator.prepare(optimizer) if self.accelerator.scaler else optimizer

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        peer = {"peer_average": self.peer_average.state_dict()} if self.peer_average else {}
        return peer | {
            "distiller": self.distiller.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "curve": [line.model_dump() for line in self.curve],
            "seconds": dict(self.seconds),
            "balance": self.balancer.state(),
        }

    def _resume(self) -> None:
        """Take up the newest checkpoint. Schedule, order, views and draws follow from the position alone."""
        state = self.checkpoints.load(self.device)
        if state is None:
            return
        self.curve = [Epoch.model_validate(line_in_todays_form(line)) for line in state["curve"]]
        self.seconds |= state["seconds"]
        self.balancer.load(state.get("balance", {}))
        self.distiller.load_state_dict(state["distiller"])
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.peer_average:
            self.peer_average.load_state_dict(state["peer_average"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if len(self.curve) == len(self.plan):
            return
        phase, local = self.plan[len(self.curve)]
        if local > 0:
            self.start_phase(phase)
            load_optimizer(self.optimizer, state["optimizer"])

    def _rest(self, step: int) -> Course[None]:
        left = time.perf_counter()
        try:
            yield step
        except GeneratorExit:
            raise LeftError from None
        self._elsewhere += time.perf_counter() - left

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of the ``with`` block to one of ``seconds``, without that of rests."""
        began, elsewhere = time.perf_counter(), self._elsewhere
        yield
        self.seconds[what] += time.perf_counter() - began - (self._elsewhere - elsewhere)
