"""Runs a race: what happens next follows from the records alone, so one that was killed goes on to the same end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from kdzoo.bench.banking import expect
from kdzoo.bench.events import Reporter
from kdzoo.bench.executors.local import Executor
from kdzoo.bench.lab import Lab
from kdzoo.bench.session import run_with_helpers
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.errors import KdzooError, counted, strategies_text
from kdzoo.find.propose import Tried, propose
from kdzoo.find.race import (
    FINALISTS,
    MOST_SETTINGS,
    Race,
    Runner,
    epochs_above,
    places,
    seconds_of,
    trainings_in,
)
from kdzoo.record import Record
from kdzoo.record_parts import Found


@dataclass(frozen=True)
class Raced:
    """How a race went.

    Args:
        race: what was raced.
        trainings: what it might spend; of a budget in time, what that came to.
        runners: all settings, the student alone first.
        finals: the student alone, then the finalists, the best on tune first, each with the records of its seeds.
    """

    race: Race
    trainings: float
    runners: tuple[Runner, ...]
    finals: tuple[tuple[Runner, tuple[Record, ...]], ...]

    @property
    def records(self) -> list[Record]:
        """All that it made: those of the rungs, then those of the finals."""
        rungs = [record for one in self.runners for record in one.records]
        return [*rungs, *(record for _, records in self.finals for record in records)]

    @property
    def seen(self) -> Found:
        """What the selection saw."""
        return _seen(self.race, self.runners)

    @property
    def spent(self) -> float:
        """The trainings' worth of epochs that it took."""
        finals = sum(len(record.curve) for _, records in self.finals for record in records)
        return (sum(one.epochs for one in self.runners) + finals) / self.race.recipe.epochs

    @property
    def seconds(self) -> float:
        """What these took: training and evaluation, of all processes together."""
        finals = sum(seconds_of(record) for _, records in self.finals for record in records)
        return sum(one.seconds for one in self.runners) + finals


class Racing:
    """A race under way.

    Args:
        race: what is raced.
        lab: store, data, plugins, device.
        report: who shows it.
        rerun: which finished cells run again.
        executor: runs the cells.
        at_once: how many cells run side by side, by which a budget in time and the time that is left are reckoned.
    """

    def __init__(
        self, race: Race, lab: Lab, report: Reporter, rerun: Rerun, executor: Executor, at_once: int = 1
    ) -> None:
        self.race, self.lab, self.at_once = race, lab, at_once
        self.execute = partial(run_with_helpers, lab=lab, report=report, rerun=rerun, executor=executor)
        self.ends = race.ends
        self.runners = race.starters()
        self.allowed = 0

    def run(self, teachers: Sequence[Cell]) -> Raced:
        """From the first rung to the finals.

        Args:
            teachers: what is trained before.

        Raises:
            KdzooError: the teacher or the student alone cannot be trained.
            UsageError: the budget is too small, or the disk full.
        """
        budget = self.race.budget
        if budget.trainings is not None:  # before anything trains
            self.allowed = self.race.allowed(budget.trainings)
        self._expect([*teachers, *(one.rung(self.ends[0]) for one in self.runners)], planned=True)
        for record in self.execute(teachers):
            if record.status != "done":
                raise KdzooError(f"the teacher could not be trained: {record.reason}")
        self._say(f"rung 1 of {len(self.ends)}: {strategies_text(self.race.strategies)} at default values")
        self._climb(self.runners, 0)
        trainings = budget.trainings or trainings_in(budget.seconds or 0, self.at_once, self.runners, self.race)
        self.allowed = self.race.allowed(trainings)
        if budget.trainings is None:
            self._say(f"the time allows {trainings:.10g} trainings: --budget {trainings:.10g}x repeats this race")
        self._draw()
        last = self._higher_rungs()
        finals = self._finals(finalists(last))
        return Raced(self.race, trainings, tuple(self.runners), finals)

    def _draw(self) -> None:
        """Try more settings on the first rung, as many as leave enough for what follows."""
        broken = {one.label for one in self.runners if one.records[-1].status == "failed"}
        spaces = {label: space for label, space in self.race.spaces.items() if label not in broken}
        lengths = {one.label: one.epochs for one in self.runners}
        sides = list(spaces)
        while spaces:
            entrants, room = len(self.runners) - 1, self.allowed - self._spent() - self.race.set_aside
            count = 0
            most = min(len(sides), MOST_SETTINGS * len(sides) + len(self.race.cells) - len(self.runners))
            while count < most and self._fits(entrants, count + 1, room):
                count += 1
            forced = sides if count == len(sides) and len(self.runners) == len(self.race.cells) else []
            asked = propose(self.race.name, spaces, [_tried(one) for one in self.runners[1:]], count, forced)
            new: list[Runner] = []
            for label, values in asked:
                room -= lengths[label]
                if room < epochs_above(entrants + len(new) + 1, self.ends):
                    break
                new.append(self.race.runner(len(self.runners) + len(new), label, values))
            if not new:
                return
            self._say(f"rung 1 of {len(self.ends)}: {counted(len(new), 'more setting')} of {_names(new)}")
            self.runners += new
            self._climb(new, 0)

    def _fits(self, entrants: int, more: int, room: int) -> bool:
        return more * self.ends[0] + epochs_above(entrants + more, self.ends) <= room

    def _higher_rungs(self) -> list[Runner]:
        """The settings of the last rung."""
        alone, *field = self.runners
        for rung in range(1, len(self.ends)):
            count = places(len(field))
            room = self.allowed - self._spent() - self.race.set_aside
            # Phases before the main one may have taken more than was reckoned with.
            while count > FINALISTS and self._above(count, rung) > room:
                count -= 1
            chosen = who_goes_on(field, count)
            out = [one for one in field if one not in chosen]
            gone = {one.label for one in out} - {one.label for one in chosen}
            self._say(
                f"{len(chosen)} of {len(field)} settings go on: {_names(chosen)}"
                + (f"; out: {', '.join(sorted(gone))}" if gone else "")
            )
            self._forget(out)
            field = chosen
            self._say(f"rung {rung + 1} of {len(self.ends)}, to epoch {self.ends[rung]}{self._left(rung, len(field))}")
            self._climb([alone, *field], rung)
        return field

    def _above(self, count: int, rung: int) -> int:
        return count * (self.ends[rung] - self.ends[rung - 1]) + epochs_above(count, self.ends[rung:])

    def _climb(self, runners: Sequence[Runner], rung: int) -> None:
        """Train to the end of a rung; the checkpoints of the one below are of no more use then."""
        cells = [one.rung(self.ends[rung]) for one in runners]
        self._expect(cells)
        records = self.execute(cells)
        self._forget([one for one in runners if one.records])
        for one, record in zip(runners, records, strict=True):
            one.records.append(record)
        alone = self.runners[0].records[-1]
        if alone.status != "done":
            raise KdzooError(f"the student alone could not be trained: {alone.reason}")

    def _forget(self, runners: Sequence[Runner]) -> None:
        """Remove the checkpoints of their last rungs."""
        for one in runners:
            with self.lab.store.claim(one.records[-1].id) as mine:
                if mine:
                    self.lab.store.clear(one.records[-1].id)

    def _finals(self, chosen: Sequence[Runner]) -> tuple[tuple[Runner, tuple[Record, ...]], ...]:
        """Train the student alone and the finalists on fresh seeds, and mark what the race chose."""
        seeds = range(self.race.seeds)
        lines = [self.runners[0], *chosen]
        self._say(f"finals on {counted(len(seeds), 'fresh seed')}: {_names(lines)}{self._left(len(self.ends), 0)}")
        cells = [one.final(seed) for seed in seeds for one in lines]
        self._expect(cells)
        records = dict(zip((cell.id for cell in cells), self.execute(cells), strict=True))
        seen = _seen(self.race, self.runners)
        for one in chosen:
            for seed in seeds:
                key = one.final(seed).id
                records[key] = self._marked(records[key], seen)
        return tuple((one, tuple(records[one.final(seed).id] for seed in seeds)) for one in lines)

    def _marked(self, record: Record, seen: Found) -> Record:
        """The record with what the selection had seen; one that saw more stands."""
        with self.lab.store.claim(record.id, wait=True):
            record = self.lab.store.claimed_record(record.id) or record
            if record.found is None or record.found.trials < seen.trials:
                record = record.of_race(seen)
                self.lab.store.write_record(record)
        return record

    def _spent(self) -> int:
        """Epochs of the settings so far; those of the student alone are set aside from the beginning."""
        return sum(one.epochs for one in self.runners[1:])

    def _left(self, rung: int, count: int) -> str:
        """The time that is left, by what an epoch took so far, before a rung or the finals."""
        epochs = self.race.set_aside - self.runners[0].epochs
        epochs += self._above(count, rung) if rung < len(self.ends) else 0
        trained, seconds = sum(one.epochs for one in self.runners), sum(one.seconds for one in self.runners)
        minutes = epochs * seconds / max(trained, 1) / self.at_once / 60
        return f"; about {minutes:.0f} min left" if minutes >= 1.5 else f"; about {60 * minutes:.0f} s left"

    def _expect(self, cells: Sequence[Cell], *, planned: bool = False) -> None:
        expect(self.lab, cells, planned=planned)

    def _say(self, line: str) -> None:
        self.lab.say(line)


def _seen(race: Race, runners: Sequence[Runner]) -> Found:
    return Found(strategies=race.strategies, trials=len(runners) - 1)


def who_goes_on(runners: Sequence[Runner], count: int) -> list[Runner]:
    """The best of a rung, in their order; no strategy has more than a third of the places while others have settings.

    Args:
        runners: on the rung; the student alone is not among them.
        count: how many places there are.
    """
    ranked = sorted((one for one in runners if one.score is not None), key=lambda one: one.rank)
    most = max(1, count // FINALISTS)
    seats: Counter[str] = Counter()
    first: list[Runner] = []
    for one in ranked:
        if seats[one.label] < most and len(first) < count:
            first.append(one)
            seats[one.label] += 1
    rest = [one for one in ranked if one not in first][: count - len(first)]
    return sorted([*first, *rest], key=lambda one: one.rank)


def finalists(runners: Sequence[Runner]) -> list[Runner]:
    """The best setting of each of the best strategies of the last rung; the student alone is not among them.

    Args:
        runners: that were trained to the end.
    """
    best: dict[str, Runner] = {}
    for one in sorted((one for one in runners if one.score is not None), key=lambda one: one.rank):
        best.setdefault(one.label, one)
    return list(best.values())[:FINALISTS]


def _tried(one: Runner) -> Tried:
    return Tried(one.label, one.values, one.score)


def _names(runners: Sequence[Runner]) -> str:
    """Their strategies in order, each once, with the number of settings where there are several."""
    counts: dict[str, int] = {}
    for one in runners:
        counts[one.label] = counts.get(one.label, 0) + 1
    return ", ".join(label + (f" ({count})" if count > 1 else "") for label, count in counts.items())
