"""Fills the generated parts of the documentation.

``python docs/generate.py`` writes what follows from the code alone (seconds). ``--check`` writes nothing and exits
with 1 where something is out of date. ``--boards quick`` (or ``card``, or both) runs that command for real and puts
its board into the README; ``--runs FOLDER`` keeps the runs there, so that finished cells are found again, and
``--flags`` adds flags to the command, which the README then shows.

The README's part on published boards is made from ``leaderboards/*/board.json``. Where there is none yet, it says so.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end of generated -->``.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from api_signatures import public_signatures
from cards_page import cards_page
from hooks_page import hooks_page
from measured import measured
from peers import peers_counts, peers_table
from published import boards, published_boards
from reference import ROOT, configuration_page
from signals_table import signal_shapes
from strategy_results import other_weights, strategy_results
from typer.testing import CliRunner
from zoo_costs import zoo_losses, zoo_steps

from kdzoo.cli import app
from kdzoo.record import Record
from kdzoo.registry import Registry
from kdzoo.store import Store
from kdzoo.testing.checks import checks_page

BOARDS = {
    "quick": "kdzoo bench",
    "card": "kdzoo bench --strategies soft,fitnets --teacher resnet101 --student resnet18",
}
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def strategies_table() -> str:
    """The built-in strategies, a family a row."""
    families: dict[str, list[str]] = {}
    for entry in sorted(Registry.load().strategies, key=lambda entry: (entry.value.family, entry.name)):
        if entry.plugin.distribution == "kdzoo":
            families.setdefault(entry.value.family, []).append(f"`{entry.name}`")
    rows = [f"| {family} | {', '.join(names)} |\n" for family, names in families.items()]
    return "".join(["| family | strategies |\n|:--|:--|\n", *rows])  # one long row would widen all others


def command_output(command: str) -> str:
    """A fenced block with a command and what it prints on standard output.

    Raises:
        RuntimeError: the command failed.
    """
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    if result.exit_code:
        raise RuntimeError(f"{command} failed: {result.output}") from result.exception
    return _console(command, result.stdout)


CHEAP: dict[str, Callable[[], str]] = {
    "strategies table": strategies_table,
    "strategies on boards": strategy_results,
    "other weights on boards": other_weights,
    "published boards": published_boards,
    "pair of CNNs": partial(command_output, "kdzoo pair --teacher resnet101 --student resnet18"),
    "pair with a ViT": partial(
        command_output, "kdzoo pair --teacher vit_tiny_patch16_224:patch_size=4 --student resnet18"
    ),
    "signal shapes": signal_shapes,
    "conformance checks": checks_page,
    "measured": measured,
    "zoo steps": zoo_steps,
    "zoo losses": zoo_losses,
    "peers counts": peers_counts,
    "peers table": peers_table,
    "public signatures": public_signatures,
}
"""The generated parts that need no training."""

WHOLE: dict[Path, Callable[[], str]] = {
    DOCS / "configuration.md": configuration_page,
    DOCS / "hooks.md": hooks_page,
    DOCS / "cards.md": partial(cards_page, command_output),
}
"""The pages that are generated from the first line to the last."""

PAGES = (ROOT / "README.md", *sorted({*WHOLE, *DOCS.glob("*.md")}))


def filled(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """A page with the named generated parts replaced; the others stay as they are."""

    def content(match: re.Match[str]) -> str:
        make = blocks.get(match["name"])
        return match.group() if make is None else f"{match[1]}{make()}{match[3]}"

    return _BLOCK.sub(content, text)


def board_block(name: str, runs: Path, flags: list[str]) -> str:
    """The command of a board, what it printed, and where and how long it ran."""
    command = [*shlex.split(BOARDS[name]), *flags]
    # A process of its own, as a person would start it; its progress goes to our standard error.
    program = [sys.executable, "-c", "from kdzoo.cli import main; main()", *command[1:], "--out", str(runs)]
    text = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True).stdout
    return _console(shlex.join(command), text) + "\n" + _where(Store.open(runs).records()) + "\n"


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--boards", default="", help="comma list of " + ", ".join(BOARDS))
    parser.add_argument("--runs", type=Path, help="folder of the boards' runs; one store for each board is made in it")
    parser.add_argument("--flags", default="", help="flags added to the boards' commands, as one text")
    asked = parser.parse_args()
    blocks = dict(CHEAP)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.runs or Path(scratch)
        for name in filter(None, asked.boards.split(",")):
            blocks[f"{name} board"] = partial(str, board_block(name, folder / name, shlex.split(asked.flags)))
    stale = []
    for page in PAGES:
        found = page.read_text(encoding="utf-8") if page.exists() else ""
        wanted = WHOLE[page]() if page in WHOLE else filled(found, blocks)
        if found != wanted:
            stale.append(page.relative_to(ROOT))
            if not asked.check:
                page.write_text(wanted, encoding="utf-8")
    for page in stale:
        print(f"{page} {'is out of date' if asked.check else 'written'}")
    if not boards():
        print(
            "leaderboards/ holds no board yet: run `kdzoo publish RUNS --to leaderboards`, then this again",
            file=sys.stderr,
        )
    return 1 if asked.check and stale else 0


def _console(command: str, output: str) -> str:
    return f"```console\n$ {command}\n{output.strip()}\n```\n"


def _where(records: list[Record]) -> str:
    """Where the runs of a board were made and how long they took."""
    first = min(datetime.fromisoformat(record.started) for record in records)
    last = max(datetime.fromisoformat(record.ended) for record in records)
    environment = records[0].environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items()))
    threads = "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
    seconds = (last - first).total_seconds()
    return f"Ran on {last:%Y-%m-%d} in {seconds:.0f} s ({environment.device}, {threads}; {versions})."


if __name__ == "__main__":
    sys.exit(main())
