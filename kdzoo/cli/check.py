"""``kdzoo check``: whether a published folder is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.errors import UsageError, unknown

if TYPE_CHECKING:
    from kdzoo.leaderboard.check.folder import Report
    from kdzoo.leaderboard.untrusted import Fault


def check(
    folder: Annotated[Path, typer.Argument(help="The published folder.")] = Path("leaderboards"),
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    remeasure: Annotated[
        Path | None,
        typer.Option(
            help="Measure the students again, with the weights of this folder of runs; top-1 must agree within "
            "0.05 points.",
            metavar="RUNS",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data, for --remeasure.", metavar="FOLDER")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, for --remeasure.", metavar="KIND")] = "auto",
) -> None:
    """Check a published folder: records, rows, tuning, and the files made from them.

    One line for each fault, with the file and the reason. Exit code 1 if there is any.

    [dim]kdzoo check leaderboards[/dim]
    """
    if format not in ("text", "json"):
        raise UsageError(unknown("format", format, ("text", "json")))

    from kdzoo.leaderboard.check.folder import check_leaderboard

    report = check_leaderboard(folder)
    faults = list(report.faults)
    measured = None
    if remeasure is not None:
        measured, more = _measured_again(report, remeasure, data_dir, device)
        faults += more
    if format == "json":
        typer.echo(_as_json(report, faults, measured))
    else:
        if report.advice:
            typer.echo(report.advice)
        for fault in faults:
            typer.echo(str(fault))
        for remark in report.remarks:
            typer.echo(f"remark: {remark}")
        typer.echo(report.summary(len(faults), measured))
    if faults:
        raise typer.Exit(1)


def _measured_again(report: Report, runs: Path, data_dir: Path | None, device: str) -> tuple[int, list[Fault]]:
    """How many students were measured again, and what is wrong with them; that there are none, too."""
    from kdzoo.bench.remeasure import remeasure
    from kdzoo.leaderboard.layout import RECORDS, record_path
    from kdzoo.leaderboard.untrusted import fault
    from kdzoo.registry import Registry
    from kdzoo.store import Store

    records = report.leaderboard.records
    seen: set[str] = set()
    store, registry = Store.open(runs), Registry.load(())
    lines = remeasure(records, store, registry, data_dir=data_dir, device=device, measured=seen.add)
    paths = {record.id: record_path(record) for record in records}
    faults = [fault(paths[identity], reason) for identity, _, reason in (line.partition(": ") for line in lines)]
    return len(seen), faults if seen or faults else [fault(RECORDS, "holds no done student to measure again")]


def _as_json(report: Report, faults: list[Fault], measured: int | None) -> str:
    import json

    return json.dumps(
        {
            "records": len(report.leaderboard.records),
            "studies": len(report.leaderboard.studies),
            "faults": [fault._asdict() for fault in faults],
            "remarks": list(report.remarks),
            "advice": report.advice,
        }
        | ({} if measured is None else {"measured_again": measured}),
        indent=1,
    )
