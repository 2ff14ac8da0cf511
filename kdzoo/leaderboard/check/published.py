"""Whether a published folder is what it says: each fault is one line, and nothing in it can raise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdzoo.errors import UsageError, counted
from kdzoo.leaderboard.check.made_files import advice, generated_faults
from kdzoo.leaderboard.check.records import record_faults, remarks
from kdzoo.leaderboard.check.rows import group_faults
from kdzoo.leaderboard.check.studies import study_faults
from kdzoo.leaderboard.layout import RECORDS, Leaderboard, read_leaderboard
from kdzoo.leaderboard.untrusted import Fault
from kdzoo.record import Record
from kdzoo.storefiles import is_store
from kdzoo.study import Study


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        leaderboard: what could be read.
        faults: file and reason, sorted.
        remarks: what is no fault.
        advice: what to do about made files that differ; empty where none does.
    """

    leaderboard: Leaderboard
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]
    advice: str = ""

    def summary(self, faults: int, measured: int | None = None) -> str:
        """The outcome in one line, with so many faults, and so many students measured again, if that was asked for."""
        found = f"{len(self.leaderboard.records):,} records and {len(self.leaderboard.studies):,} studies"
        if measured is not None:
            found += f", {counted(measured, 'student')} measured again"
        return f"{found}: {f'{faults:,}' if faults else 'no'} fault{'' if faults == 1 else 's'}"


def check_leaderboard(folder: Path) -> CheckReport:
    """Check a published folder, which may be hostile.

    Args:
        folder: where.

    Raises:
        UsageError: it is no published folder.
    """
    if not (folder / RECORDS).is_dir():
        if is_store(folder):
            raise UsageError(
                f"{folder} is a folder of runs; `kdzoo publish {folder} --to FOLDER` publishes it, and `kdzoo check "
                "FOLDER` checks what was published"
            )
        raise UsageError(f"{folder} is no published folder, which has a folder {RECORDS}; give the one after --to")
    leaderboard = read_leaderboard(folder)
    faults = [*leaderboard.faults, *content_faults(leaderboard.records, leaderboard.studies)]
    notes = remarks(leaderboard.records)
    made: list[Fault] = []
    if leaderboard.complete:
        made = generated_faults(folder, leaderboard, notes)
    else:
        notes.append("the made files were not compared, because not all records could be read")
    return CheckReport(leaderboard, tuple(sorted(faults + made)), tuple(notes), advice(folder, len(made)))


def content_faults(records: Sequence[Record], studies: Sequence[Study]) -> list[Fault]:
    """What is wrong with records and studies as such, wherever they stand."""
    return sorted([*record_faults(records), *group_faults(records), *study_faults(records, studies)])
