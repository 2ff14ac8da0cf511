"""From stores of runs to a published folder: records without weights, and everything that is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdzoo.errors import UsageError
from kdzoo.leaderboard.check.folder import content_faults
from kdzoo.leaderboard.layout import Leaderboard
from kdzoo.leaderboard.private import place_named_in
from kdzoo.leaderboard.sources import read_store
from kdzoo.leaderboard.union import Union
from kdzoo.leaderboard.untrusted import Fault
from kdzoo.leaderboard.write import RefusedError, Written, as_lines, open_target, write_folder


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        union: which records and studies were added, replaced, or there already.
        written: the files that changed.
        faults: what `kdzoo check` will find in the records; the files themselves are as it wants them.
    """

    union: Union
    written: Written
    faults: tuple[Fault, ...]


def publish(runs: Sequence[Path], to: Path, *, replace: bool = False, redraw: bool = False) -> Published:
    """Copy what stores hold into a published folder, and make its files anew. All is read before anything is written.

    Copied are the students' records, done and failed, the trainings of their teachers, and finished studies, without
    what :func:`kdzoo.leaderboard.private.publishable` leaves out. What the folder holds stays.

    Args:
        runs: stores; none to make the files anew only.
        to: the published folder, made if it is not there.
        replace: whether a new result replaces one of the same cell that contradicts it.
        redraw: whether plots are drawn anew that show these records already.

    Raises:
        UsageError: a store is none, holds nothing to publish, or the folder cannot be written.
        RefusedError: something cannot be read, or contradicts what is there.
    """
    old = open_target(to)
    if not runs and not old.records:
        raise UsageError(f"{to} holds no records to make files from; give folders of runs")
    union = Union(
        records={record.id: record for record in old.records}, studies={study.id: study for study in old.studies}
    )
    unreadable: list[str] = []
    places: list[str] = []
    for folder in runs:
        source = read_store(folder)
        unreadable += as_lines(source.faults, folder)
        if not source.records and not source.faults:
            raise UsageError(f"{folder} holds no finished student; wait for its bench, or leave it out")
        named = {one.id: place_named_in(one) for one in source.records}
        named |= {one.id: place_named_in(one) for one in source.studies}
        places += [f"{which}: {place}" for which, place in named.items() if place]
        union.add(source.records, source.studies, "second" if replace else "neither")
    if unreadable:
        raise RefusedError("nothing was published; move these away, and run their bench again:", unreadable)
    if places:
        raise RefusedError("nothing was published; these would show where their owner keeps things:", places)
    if union.conflicts:
        raise RefusedError("nothing was published; --replace takes the new results of these:", union.conflicts)
    new = Leaderboard(
        tuple(sorted(union.records.values(), key=lambda record: record.id)),
        tuple(sorted(union.studies.values(), key=lambda study: study.id)),
    )
    faults = content_faults(new.records, new.studies)
    return Published(union, write_folder(to, old, new, redraw=redraw), tuple(faults))
