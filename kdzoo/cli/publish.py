"""``kdzoo publish``, ``merge`` and ``check``: from runs to a folder that others can read, add to and check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from kdzoo.errors import UsageError, unknown

if TYPE_CHECKING:
    from kdzoo.leaderboard.check.published import CheckReport
    from kdzoo.leaderboard.publish import Published, RefusedError
    from kdzoo.leaderboard.untrusted import Fault


def publish(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Folders of runs (the --out of benches).", metavar="RUNS")
    ] = None,
    to: Annotated[Path, typer.Option(help="Published folder; created if missing.", metavar="FOLDER")] = Path(
        "leaderboards"
    ),
    replace: Annotated[
        bool,
        typer.Option("--replace", metavar="", help="Replace published results that the new results contradict."),
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", metavar="", help="Copy nothing; regenerate tables, pages and plots.")
    ] = False,
) -> None:
    """Copy records into a published folder, and make its tables, pages and plots.

    Weights are not copied. Tracebacks and local paths are left out. Without RUNS, the files in --to are regenerated.

    [dim]kdzoo publish runs --to boards[/dim]
    """
    if runs and refresh:
        raise UsageError("--refresh copies nothing; leave it out, or leave out the folders of runs")

    from kdzoo.leaderboard.publish import RefusedError, publish_runs

    try:
        published = publish_runs(runs or (), to, replace=replace, redraw=refresh)
    except RefusedError as error:
        raise refused(error) from None
    show_published(published, to)


def refused(error: RefusedError) -> typer.Exit:
    """Tell why nothing was written; the exit to raise."""
    typer.echo(f"error: {error}", err=True)
    for line in error.lines:
        typer.echo(f"  {line}", err=True)
    return typer.Exit(1)


def show_published(published: Published, to: Path) -> None:
    """Print what was copied and made, and what `kdzoo check` will say of it.

    Raises:
        typer.Exit: with code 1, if it will find a fault.
    """
    union, written = published.union, published.written
    for place, count in sorted(Counter(path.parent for path in written.records).items()):
        typer.echo(f"copied  {to / place}: {count:,}")
    for path in written.made:
        typer.echo(f"made    {to / path}")
    for path in written.removed:
        typer.echo(f"removed {to / path}")
    typer.echo(
        f"{len(union.records):,} records and {len(union.studies):,} studies; {len(union.added):,} new, "
        f"{len(union.replaced):,} replaced, {len(union.kept):,} unchanged"
    )
    for fault in published.faults:
        typer.echo(f"warning: kdzoo check will report: {fault}", err=True)
    if published.faults:
        raise typer.Exit(1)


def merge(
    first: Annotated[Path, typer.Argument(help="A published folder, or a folder of runs.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Another published folder or folder of runs.", metavar="B")],
    to: Annotated[
        Path | None, typer.Option(help="A new folder for both; by default B is added to A.", metavar="FOLDER")
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(help="first or second: which result to keep where A and B contradict.", metavar="WHICH"),
    ] = None,
) -> None:
    """Merge the records of two people into one published folder.

    A folder of runs has a store.json, a published folder has records.

    Contradictions are listed, and nothing is written until --prefer decides them.

    The result passes kdzoo check, or nothing is written.

    [dim]kdzoo merge leaderboards theirs --to both[/dim]
    """
    if prefer not in (None, "first", "second"):
        raise UsageError(unknown("side to prefer", prefer, ("first", "second")))

    from kdzoo.leaderboard.publish import RefusedError, merge_folders

    side = cast(Literal["neither", "first", "second"], prefer or "neither")
    try:
        merged = merge_folders(first, second, to, side)
    except RefusedError as error:
        raise refused(error) from None
    show_published(merged, first if to is None else to)


def check(
    folder: Annotated[Path, typer.Argument(help="The published folder.")] = Path("leaderboards"),
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    remeasure: Annotated[
        Path | None,
        typer.Option(
            help="Measure the students again, with the weights of this folder of runs; the main measure must agree "
            "within 0.05 points.",
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

    from kdzoo.leaderboard.check.published import check_leaderboard

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


def _measured_again(report: CheckReport, runs: Path, data_dir: Path | None, device: str) -> tuple[int, list[Fault]]:
    """How many students were measured again, and what is wrong with them; that there are none, too."""
    from kdzoo.bench.remeasure import remeasure
    from kdzoo.leaderboard.layout import RECORDS, path_of_record
    from kdzoo.leaderboard.untrusted import fault
    from kdzoo.registry import Registry
    from kdzoo.store import Store

    records = report.leaderboard.records
    seen: set[str] = set()
    store, registry = Store.open(runs), Registry.load(())
    lines = remeasure(records, store, registry, data_dir=data_dir, device=device, measured=seen.add)
    paths = {record.id: path_of_record(record) for record in records}
    faults = [fault(paths[identity], reason) for identity, _, reason in (line.partition(": ") for line in lines)]
    return len(seen), faults if seen or faults else [fault(RECORDS, "holds no done student to measure again")]


def _as_json(report: CheckReport, faults: list[Fault], measured: int | None) -> str:
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
