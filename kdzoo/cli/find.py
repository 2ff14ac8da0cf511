"""``kdzoo find``: which strategy for this pair, within a budget."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.cli.options import DryRun, Options, given_options, some_options
from kdzoo.errors import UsageError, counted, strategies_text
from kdzoo.flags import OPTIONS

if TYPE_CHECKING:
    from kdzoo.bench.lab import Lab
    from kdzoo.bench.plan import BenchPlan
    from kdzoo.cli.running import Prepared
    from kdzoo.find.finding import RaceFinding
    from kdzoo.find.race import Race
    from kdzoo.find.racing import Raced

_SEEDS = 5
_DECIDED = ("balance", "tune", "tune_epochs", "tune_recipe", "pruner", "tune_batch", "eval_every", "lockstep")
"""Options of a bench that say what a race decides by itself."""


@some_options(*(name for name, option in OPTIONS.items() if option.flag and name not in (*_DECIDED, "seeds")))
def find(
    options: Options,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Number of fresh seeds on which the finalists are trained; by default 5.",
            metavar="N",
            rich_help_panel=OPTIONS["seeds"].panel,
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="What the race may spend, the teacher's training apart: trainings' worth of epochs (40x) or a time "
            "(2h, 90min).",
            metavar="N",
            rich_help_panel=OPTIONS["strategies"].panel,
        ),
    ] = "60x",
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the race into this folder, SVG and HTML.",
            metavar="FOLDER",
            rich_help_panel=OPTIONS["out"].panel,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Race strategies and their parameters on one pair, and recommend one. All strategies and 5 seeds by default.

    The best on tune are trained again on fresh seeds, beside the student alone, and measured on test once. The same
    command resumes a race that was stopped.

    [dim]kdzoo find --teacher resnet10t --student test_resnet --dataset digits --budget 2h[/dim]
    """
    from kdzoo.cli.running import make_lab, prepare, show_failures
    from kdzoo.find.race import Race, RaceBudget

    allowed = RaceBudget.parse(budget)
    options["seeds"] = seeds
    asked = dict(options)
    if options["config"] == OPTIONS["config"].default:  # the strategies and seeds of a first bench are no choice
        options |= {"strategies": options["strategies"] or "all", "seeds": options["seeds"] or _SEEDS}
    races: list[Race] = []

    def as_race(plan: BenchPlan) -> None:
        races.append(Race.of(plan, allowed))
        races[0].reshape(plan)

    # As if every strategy were tuned: what is searched of it is looked up and tried on the pair.
    defaults = {"strategies": "all", "seeds": _SEEDS, "tune": 1}
    prepared = prepare(options, dry_run=dry_run, defaults=defaults, change=as_race)
    (race,) = races
    if allowed.seconds is not None and prepared.settings.executor != "local":
        raise UsageError("a budget in time counts the processes of this machine; give trainings instead: --budget 40x")
    if allowed.trainings is not None:
        race.allowed(allowed.trainings)
    if dry_run:
        typer.echo(_plan_text(race))
        return
    lab = make_lab(prepared)
    raced = _run(race, prepared, lab)
    show_failures(raced.records, prepared.registry)

    from kdzoo.board.cache import refresh
    from kdzoo.board.terminal import output_width
    from kdzoo.find.finding import finding_text, read_finding
    from kdzoo.find.picture import race_table, write_picture

    refresh(lab.store)
    finding = read_finding(raced)
    typer.echo(race_table(finding))
    repeat = shlex.join([*_words("find", asked), "--budget", f"{raced.trainings:.10g}x"])
    train = _training(asked, finding)
    typer.echo(finding_text(finding, train=train, repeat=repeat, width=output_width()), nl=False)
    for path in write_picture(finding, plot) if plot else ():
        typer.echo(f"wrote {path}", err=True)
    if any(record.status == "failed" for record in raced.records):
        raise typer.Exit(1)


def _run(race: Race, prepared: Prepared, lab: Lab) -> Raced:
    """Run the race; a pool of workers says how many cells run side by side."""
    from kdzoo.cli.running import at_work
    from kdzoo.find.racing import Racing

    teachers = [cell for cell in prepared.plan.cells if cell.kind == "teacher"]
    with at_work(prepared, lab, prepared.plan.cells, counted=False) as (executor, report):
        at_once = int(getattr(getattr(executor, "pool", None), "workers", 1))
        return Racing(race, lab, report, prepared.settings.rerun, executor, at_once).run(teachers)


def _plan_text(race: Race) -> str:
    """What a dry run says of the race itself."""
    whole = race.recipe.epochs
    return (
        f"\nrace of {strategies_text(race.strategies)}, with rungs that end after epochs "
        f"{', '.join(map(str, race.ends))}; it needs at least {race.least() / whole:.1f} trainings, of which the "
        f"finals on {counted(race.seeds, 'seed')} take {race.set_aside / whole - 1:g}"
    )


def _training(asked: Options, finding: RaceFinding) -> str:
    """The command that trains the recommended student on the seeds of the finals."""
    race, recommended = finding.raced.race, finding.recommended
    name, before = recommended.label, race.cells[recommended.label].strategy.params
    owners = ("recipe", name, recommended.cell.strategy.name)
    found = {key: value for key, value in recommended.cell.strategy.params.items() if value != before[key]}
    kept = [each for each in asked["set"] or () if each.partition(".")[0].strip() in owners]
    values = [f"{name}.{key}={json.dumps(value)}" for key, value in found.items()]
    options = asked | {"strategies": name, "seeds": race.seeds, "set": kept + values}
    return shlex.join(_words("bench", options, without=["search"]))


def _words(command: str, options: Options, without: Sequence[str] = ()) -> list[str]:
    """A command with the options that were given."""
    words = ["kdzoo", command]
    for name in given_options(options):
        value, spelled = options[name], OPTIONS[name].spelled[-1].split("/")
        if name in without:
            continue
        if isinstance(value, bool):
            words.append(spelled[0] if value else spelled[-1])
            continue
        for one in value if OPTIONS[name].many else [value]:
            words += [spelled[0], str(one)]
    return words
