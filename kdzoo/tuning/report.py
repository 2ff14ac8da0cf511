"""Studies of tuning as plain text: what was searched, what was found, what mattered, and every trial."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from kdzoo.board.labels import params_text, recipe_text, strategy_labels, teacher_labels, value_text
from kdzoo.board.printed import NONE, number, score_text
from kdzoo.board.titles import img_size_text
from kdzoo.board.tuned import pruner_text, settings_text
from kdzoo.errors import counted
from kdzoo.foreign import printable
from kdzoo.measures import Measure, in_order
from kdzoo.study import Study, Trial
from kdzoo.tuning.optuna_study import TRIALS_PER_PARAMETER, importance

_LABEL = 12
_NARROWEST = 40
_LEAST = 24
"""Characters that are left to the reasons, however narrow the terminal."""

_NOTES = (
    "{score}: on the tune split, after the last epoch of a trial, one seed; it was used for selection in every "
    "trial, so do not report it: the board has the test results on fresh seeds",
    "importance: fANOVA by Optuna, the share of the variance of {score} over the search ranges that a parameter "
    f"explains alone; rough below {TRIALS_PER_PARAMETER} done trials for each parameter",
    "seconds: training and evaluation, including the teacher's passes",
)


def studies_text(studies: Iterable[Study], *, width: int = 120) -> str:
    """Every study: its best values beside the defaults, the importance of each parameter, its cost, its trials.

    The order is by dataset, pair, strategy and id, whatever that of the studies.

    Args:
        studies: as far as they are.
        width: characters of a line, where words allow it.
    """
    width = max(width, _NARROWEST)
    listed = titled(studies)
    if not listed:
        return "no studies yet\n"
    blocks = [_block(title, study, width) for title, study in listed]
    score = " or ".join(main.title for main in in_order({study.main for _, study in listed}))
    notes = "\n".join(_folded(note.format(score=score), width, 2) for note in _NOTES)
    return "\n\n\n".join([*blocks, notes]) + "\n"


def titled(studies: Iterable[Study]) -> list[tuple[str, Study]]:
    """The studies with their titles (dataset, pair, strategy; safe to print), in the order in which they are told."""
    listed = sorted(studies, key=lambda study: study.id)
    teachers = teacher_labels([study.plan.teacher for study in listed])
    strategies = strategy_labels([study.plan.strategy for study in listed])
    titles = [
        f"{plan.data.name} {img_size_text(plan.data.img_size)}: {teacher} -> {plan.student}, {strategy}"
        for plan, teacher, strategy in zip((study.plan for study in listed), teachers, strategies, strict=True)
    ]
    return sorted(
        ((printable(title), study) for title, study in zip(titles, listed, strict=True)), key=lambda pair: pair[0]
    )


def progress_text(study: Study) -> str:
    """How far a study is: ``10 of 10: 8 done, 1 pruned, 1 failed``; ``4 of 20: 4 done; all 4 settings tried``."""
    states: Counter[str] = Counter(trial.state for trial in study.trials)
    words = {"done": "done", "pruned": "pruned", "failed": "failed", "asked": "not ended"}
    counts = [f"{states[state]} {word}" for state, word in words.items() if states[state]]
    found = f"{len(study.trials)} of {study.plan.trials}: " + (", ".join(counts) or "none asked for yet")
    return found + (f"; {note}" if (note := settings_text(study)) else "")


def space_text(study: Study) -> str:
    """How a study searches: length of a trial, pruner, batch."""
    plan = study.plan
    return (
        f"{counted(plan.trial_recipe.epochs, 'epoch')} a trial, {pruner_text(plan.pruner)}, "
        f"{counted(plan.batch, 'trial')} sampled at a time"
    )


def _block(title: str, study: Study, width: int) -> str:
    lines = [_folded(title, width, 2)]
    for label, text in _facts(study):
        lines.append(_folded(f"  {label:<{_LABEL}}{printable(text)}", width, 2 + _LABEL))
    if study.trials:
        lines += ["", _grid(study, width)]
    return "\n".join(lines)


def _facts(study: Study) -> list[tuple[str, str]]:
    plan = study.plan
    space = ", ".join(f"{name} {tried}" for name, tried in sorted(plan.space.items()))
    facts = [
        ("study", f"{study.id}, on the tune split ({plan.data.tune} samples), one seed"),
        ("recipe", recipe_text(plan.recipe)),
        ("searched", space),
        ("trials", f"{progress_text(study)}; {space_text(study)}"),
        ("best", _best_text(study)),
        ("default", _default_text(study)),
        ("importance", _importance_text(study)),
        ("cost", f"{number(study.seconds, 1)} seconds"),
    ]
    return facts


def _best_text(study: Study) -> str:
    best = study.best
    if best is None or best.score is None:
        return "none: no trial is done"
    place = study.trials.index(best)
    main = study.main
    words = f"{params_text(best.values)}: {main.title} {score_text(best.score, main, space=' ')} (trial {place})"
    default = study.trials[0].score
    if place == 0:
        return f"{words}, the default"
    if default is None:
        return words
    points = " points" if main.unit == "%" else ""
    return f"{words}, {number(best.score - default, main.digits, sign=True)}{points} against the default"


def _default_text(study: Study) -> str:
    values = params_text(study.plan.defaults())
    if not study.trials:
        return f"{values}: not tried yet"
    first = study.trials[0]
    main = study.main
    score = f"{main.title} {score_text(first.score, main, space=' ')}"
    if first.score is None:
        score = f"no {main.title}, {first.state}"
    outside = [name for name, tried in sorted(study.plan.space.items()) if first.values[name] not in tried]
    note = f"; {', '.join(outside)} lies outside of what is searched" if outside else ""
    return f"{values}: {score} (trial 0){note}"


def _importance_text(study: Study) -> str:
    found = importance(study)
    if found.why_none:
        return f"none: {found.why_none}"
    shares = ", ".join(f"{name} {number(share)}" for name, share in found.shares.items())
    return f"{shares} (from {found.trials} trials{', rough' if found.rough else ''})"


def _grid(study: Study, width: int) -> str:
    names = sorted(study.plan.space)
    own = f"{study.plan.strategy.name}."
    headers = [
        "#",
        "state",
        *(printable(name.removeprefix(own)) for name in names),
        study.main.heading,
        "seconds",
        "reason",
    ]
    rows = [_row(place, trial, names, study.main) for place, trial in enumerate(study.trials)]
    if not any(row[-1] for row in rows):
        headers.pop()
        rows = [row[:-1] for row in rows]
    else:
        taken = sum(max(map(len, column)) for column in zip(*(row[:-1] for row in [headers, *rows]), strict=True))
        room = max(_LEAST, width - 2 - taken - 2 * len(names) - 8)
        for row in rows:
            row[-1] = "\n".join(textwrap.wrap(row[-1], room, break_on_hyphens=False))
    aligns = ["right", "left", *("right" for _ in names), "right", "right", "left"][: len(headers)]
    # The headers go in as a row, because tabulate makes a header's column two wider than its words.
    text = tabulate([headers, *rows], tablefmt="plain", colalign=aligns, disable_numparse=True)
    return textwrap.indent("\n".join(line.rstrip() for line in text.splitlines()), "  ")


def _row(place: int, trial: Trial, names: Sequence[str], main: Measure) -> list[str]:
    values = [value_text(trial.values[name]) for name in names]
    seconds = NONE if trial.state == "asked" else number(trial.seconds, 1)
    return [str(place), trial.state, *values, number(trial.score, main.digits), seconds, printable(trial.reason)]


def _folded(line: str, width: int, indent: int) -> str:
    """The line, folded between words; what follows its first line is set in by ``indent``."""
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(), width, initial_indent=" " * lead, subsequent_indent=" " * indent, break_on_hyphens=False
    )
