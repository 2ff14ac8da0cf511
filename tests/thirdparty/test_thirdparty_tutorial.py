"""The tutorial, followed to the letter in a fresh environment: each command in its order, each file in its place."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from other_environment import borrow, site_of
from waiting import PATIENCE, start

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SMALL = (
    "--dataset 'digits[:600]' --teacher test_resnet --student test_resnet --seeds 1 --epochs 1 --teacher-epochs 3 "
    "--device cpu"
)
SHORTER = {
    # The kit takes half a minute; tests/docs runs all of it on this strategy.
    "python -m pytest": "-q -k 'not conformance' -p no:cacheprovider -p no:xdist",
    "kdzoo check-strategy": "--only terms,argument-order,gradient-student,card,examples",
    "kdzoo bench --strategies": SMALL,
    "kdzoo bench --config": "--dry-run --dataset digits --set recipe.epochs=5",
}
"""What is added to the commands that begin so, for the test to take less than a minute."""

_BLOCK = re.compile(r'^```(console|python)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Shell:
    """One shell that keeps its folder and its environment from command to command, as a person's does."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = start("bash", "--noprofile", "--norc", cwd=folder, env=variables, **pipes)

    def run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command} </dev/null\nended=$?; echo; echo ended $ended in $PWD\n")
        self.process.stdin.flush()
        lines: list[str] = []
        for line in iter(self.process.stdout.readline, ""):
            if end := re.fullmatch(r"ended (\d+) in (.*)\n", line):
                assert end[1] == "0", f"{command}\n{''.join(lines)}"
                self.folder = Path(end[2])
                return "".join(lines).rstrip("\n")
            lines.append(line)
        raise AssertionError(f"the shell ended in {command}\n{''.join(lines)}")

    def close(self) -> None:
        """End the shell."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A person's shell: at home there is a checkout, and no kdzoo on any path; pip has no network."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "kdzoo").symlink_to(ROOT)
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    given = {name: value for name, value in os.environ.items() if name not in hidden}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    quick = {"OMP_NUM_THREADS": "1", "PIP_NO_COMPILE": "1", "PIP_QUIET": "1", "COLUMNS": "120"}
    # `python` is what runs the tests, and not the environment's, where kdzoo is installed.
    base = Path(getattr(sys, "_base_executable", sys.executable)).parent
    bare = {"HOME": str(home), "PATH": f"{base}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    shell = Shell(home, {**given, **offline, **quick, **bare})
    yield shell
    shell.close()


def plain(text: str) -> list[str]:
    """The lines, without the numbers and widths that differ from run to run and from pair to pair."""
    masked = re.sub(r"[-+]?\d[\d.,]*[Mx%]?", "N", text)
    return [re.sub(r"[- ]+", " ", line).strip() for line in masked.splitlines()]


def compare(command: str, shown: str, printed: str) -> None:
    """Hold what the page shows to what was printed, word by word; of a board, the words that are the same for any."""
    if not command.startswith("kdzoo bench"):
        assert printed == shown
        return
    board, seen = plain(shown), plain(re.split(r"^(?=digits\S* \S+: )", printed, flags=re.MULTILINE)[-1])
    about, heading = board[1:6], next(place for place, line in enumerate(board) if line.startswith("#"))
    assert [line.split()[0] for line in about] == [line.split()[0] for line in seen[1:6]]
    assert board[heading] in seen, printed
    # Below the rows stands what the columns mean; of one seed also why there is no interval; then what could be next.
    meaning, theirs = (
        lines[max(place for place, line in enumerate(lines) if not line) + 1 :] for lines in (board, seen)
    )
    assert len(meaning) > 2
    explained = itertools.takewhile(lambda line: not line.startswith("next "), theirs)
    assert meaning == [line for line in explained if not line.startswith("n<")], printed
    rows = [set(re.findall(r"^\d+ +(\S+)", text, re.MULTILINE)) for text in (shown, printed)]
    assert rows[0] == rows[1] == {"kdzoo-mine:mine", "soft", "ce"}


def test_a_new_user_follows_the_tutorial(shell: Shell) -> None:
    ran: list[str] = []
    for kind, title, text in _BLOCK.findall(PAGE):
        if kind == "python":
            target = shell.folder / title
            assert target.is_file(), f"the page speaks of {title} in {shell.folder}, which is not there"
            target.write_text(text, encoding="utf-8")
            continue
        commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        for each in commands:
            command, _, shown = each.rstrip("\n").partition("\n")
            more = next((flags for start, flags in SHORTER.items() if command.startswith(start)), "")
            printed = shell.run(f"{command} {more}".rstrip())
            if "-m venv" in command:
                # In the place of an index: the libraries that kdzoo needs, and nothing of kdzoo.
                borrow(shell.folder / "venv", shell.folder.parent / "libraries")
                for old in site_of(shell.folder / "venv").glob("setuptools*"):
                    shutil.rmtree(old)  # pip would bring the newer one that torch asks for
            if shown:
                compare(command, shown, printed)
            if command == "python -m pytest":
                assert "4 passed, 1 deselected" in printed
            if command == "kdzoo strategies":
                assert re.search(r"^.* mine .* kdzoo-mine$", printed, re.MULTILINE), printed
            if command.startswith("kdzoo check-strategy"):
                assert not re.search(r"^(fail|warn)", printed, re.MULTILINE), printed
            if command == "pip install ~/kdzoo":
                (shell.folder.parent / "kdzoo").unlink()  # the checkout is not needed any more
            ran.append(command)
    assert [command.split()[0] for command in ran].count("kdzoo") == 5
    assert ran.count("python -m pytest") == 2
