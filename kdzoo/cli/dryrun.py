"""What a bench would do: its cells and their state, the pairs, their stages and sizes; and what may come after it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer
from tabulate import tabulate

from kdzoo.errors import counted

if TYPE_CHECKING:
    from kdzoo.bench.facts import PairPlan
    from kdzoo.bench.plan import BenchPlan, Refusal
    from kdzoo.config import BenchConfig
    from kdzoo.store import Store


def show_refused(plan: BenchPlan) -> None:
    """Name each strategy that cannot serve a pair, or breaks on it, on standard error."""
    for verb, refusals in (("cannot serve", plan.refused), ("breaks on", plan.broken)):
        for refusal in refusals:
            show_refusal(verb, refusal)


def show_refusal(verb: str, refusal: Refusal) -> None:
    """Name one, on standard error."""
    where = f"{refusal.teacher} -> {refusal.student} on {refusal.data}"
    typer.echo(f"warning: {refusal.strategy} {verb} {where}: {refusal.reason}", err=True)


def show_notes(plan: BenchPlan) -> None:
    """Say on standard error what is odd about how the data were read."""
    for data in plan.datasets:
        for note in data.notes:
            typer.echo(f"note: {data.ref.name}: {note}", err=True)


_SEEDS = 10
"""Seeds from which on more of them are not proposed."""


def show_next(settings: BenchConfig) -> None:
    """What a person may do after a bench, on standard error: the last lines on a terminal.

    Args:
        settings: of the bench.
    """
    found = []
    if settings.seeds < _SEEDS:
        found.append(f"the same with --seeds {_SEEDS}: narrower intervals; only the new seeds are trained")
    if settings.tune is None:
        found.append("the same with --tune 15: fit each strategy's weights to this pair first, then compare")
    found.append("your own pair: `kdzoo find --teacher NAME --student NAME --dataset folder:PATH` races all strategies")
    for number, line in enumerate(found):
        typer.echo(f"{'' if number else 'next':<6}{line}", err=True)


def show_plan(plan: BenchPlan, store: Store, *, only_tune: bool = False) -> None:
    """Print the plan; nothing is written.

    Args:
        plan: the plan.
        store: where its cells live.
        only_tune: whether only teachers and trials will be trained.
    """
    from kdzoo.matrix import cell_title

    for line in plan.inputs:
        typer.echo(f"{line}\n")
    for pair in plan.pairs:
        typer.echo(_pair_text(pair))
    for data in plan.datasets:
        typer.echo(f"{data.ref.name} has the fingerprint {data.ref.fingerprint} ({data.covers})\n")
    for data in plan.datasets:
        if data.files:
            from kdzoo.cli.data import checked_text

            typer.echo(f"{checked_text(plan.data[data.ref])}\n")
    rows = []
    for cell in plan.cells:
        if only_tune and cell.kind != "teacher":
            continue
        state = store.state(cell.id)
        rows.append([cell.id, state, cell_title(cell), cell.recipe.name, cell.recipe.epochs])
    typer.echo(tabulate(rows, headers=["cell", "state", "what", "recipe", "epochs"], disable_numparse=True))
    states = Counter(row[1] for row in rows)
    if plan.studies:
        typer.echo("\n" + tabulate(_study_rows(plan, store), headers=["study", "trials", "of", "searched"]))
    counts = ": " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())) if rows else ""
    typer.echo(f"\n{counted(len(rows), 'cell')}{counts}{_tuning_text(plan, len(rows), only_tune=only_tune)}")


def _tuning_text(plan: BenchPlan, cells: int, *, only_tune: bool) -> str:
    """How many cells tuning adds: each trial is one, and each seed of a winner, unless the default wins."""
    later = plan.later(only_tune=only_tune)
    if not later:
        return ""
    trials = sum(cell.kind == "trial" for cell in later)
    winners = f" and at most {counted(len(later) - trials, 'cell')} for winners" if len(later) > trials else ""
    return f"; tuning adds {counted(trials, 'trial')}{winners}: {cells + len(later)} in total, finished cells included"


def _study_rows(plan: BenchPlan, store: Store) -> list[list[str]]:
    rows = []
    for study in plan.studies:
        found = store.find_study(study.id)
        ended = sum(trial.state != "asked" for trial in found.trials) if found else 0
        what = f"{study.strategy.name} {study.teacher.model} -> {study.student} on {study.data.name}"
        searched = ", ".join(f"{name}={tried}" for name, tried in study.space.items())
        rows.append([study.id, f"{ended}/{study.length}", what, searched])
    return rows


def _pair_text(pair: PairPlan) -> str:
    from kdzoo.cli.pair import stages_text

    return stages_text(pair)
