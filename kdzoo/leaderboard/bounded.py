"""Records and studies of other people, none of which holds a longer curve than its own recipe allows."""

from __future__ import annotations

from kdzoo.errors import KdzooError
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study


def bounded_record(content: bytes, where: str) -> Record:
    """As :func:`kdzoo.record.parse_record`.

    Raises:
        KdzooError: it is no record that this kdzoo reads, or its curve is too long.
    """
    record = parse_record(content, where)
    _bound(len(record.curve), record.cell.recipe.epochs, f"{where}: has a curve", "its recipe")
    return record


def bounded_study(content: bytes, where: str) -> Study:
    """As :func:`kdzoo.study.parse_study`.

    Raises:
        KdzooError: it is no study that this kdzoo reads, or the curve of a trial is too long.
    """
    study = parse_study(content, where)
    for number, trial in enumerate(study.trials):
        _bound(len(trial.curve), study.plan.trial_recipe.epochs, f"{where}: trial {number} has a curve", "a trial")
    return study


def _bound(lines: int, epochs: int, what: str, whose: str) -> None:
    if lines > epochs:
        raise KdzooError(f"{what} of {lines:,} lines, and {whose} {epochs:,} epochs")
