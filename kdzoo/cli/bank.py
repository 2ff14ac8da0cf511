"""``kdzoo bank``: what a teacher's kept signals take, whether they are whole, and away with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdzoo.errors import UsageError

bank_app = typer.Typer(
    help="List, check or remove teacher signals that benches have cached on disk.", no_args_is_help=True
)

Runs = Annotated[Path, typer.Option("--out", help="Folder of runs (the --out of the bench).", metavar="FOLDER")]


@bank_app.command("ls")
def ls(out: Runs = Path("runs")) -> None:
    """List the cache: one line for each signal of each teacher."""
    from tabulate import tabulate

    from kdzoo.engine.bank.inventory import list_entries
    from kdzoo.engine.bank.policy import bytes_text
    from kdzoo.store import Store

    entries = list_entries(Store.open(out))
    if not entries:
        typer.echo("the bank is empty")
        return
    rows = [
        (
            entry.key,
            entry.teacher,
            entry.data,
            entry.signal,
            entry.shape,
            entry.dtype,
            f"{entry.views}{f' (+{entry.begun} begun)' if entry.begun else ''}",
            bytes_text(entry.bytes),
        )
        for entry in entries
    ]
    headers = ["key", "teacher", "dataset", "signal", "shape", "type", "views", "size"]
    typer.echo(tabulate(rows, headers=headers, disable_numparse=True))
    typer.echo(f"\n{bytes_text(sum(entry.bytes for entry in entries))} in {out / 'bank'}")


@bank_app.command("verify")
def verify_bank(out: Runs = Path("runs")) -> None:
    """Read the whole cache and compare it with its checksums. Exit code 1 if something is damaged.

    A bench computes damaged blocks again by itself.
    """
    from kdzoo.engine.bank.inventory import verify_views
    from kdzoo.store import Store

    count, faults = verify_views(Store.open(out))
    for fault in faults:
        typer.echo(fault)
    whole = "all intact" if count else "nothing to read"
    outcome = f"{len(faults)} {'file is' if len(faults) == 1 else 'files are'} damaged" if faults else whole
    typer.echo(f"{count} {'view' if count == 1 else 'views'}: {outcome}")
    if faults:
        raise typer.Exit(1)


@bank_app.command("rm")
def rm(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys, or their first characters.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", metavar="", help="Remove everything.")] = False,
    out: Runs = Path("runs"),
) -> None:
    """Remove cached signals; benches compute them again when needed."""
    from kdzoo.engine.bank.inventory import remove_entries
    from kdzoo.engine.bank.policy import bytes_text
    from kdzoo.store import Store

    if bool(keys) == all_:
        raise UsageError("give the keys to remove (`kdzoo bank ls` lists them), or --all")
    if any(not key for key in keys or []):
        raise UsageError("an empty key matches everything; give --all for that")
    typer.echo(f"removed {bytes_text(remove_entries(Store.open(out), keys or ['']))}")
