"""What earlier commands found out is printed without importing torch, to the byte; what changed since is found anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = (
    *("bench", "--strategies", "soft,mine", "--teacher", "test_resnet", "--student", "test_resnet"),
    *(
        "--plugin",
        "mine.py",
        "--dataset",
        "digits[:100]",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--device",
        "cpu",
        "--trust-teacher",
    ),
)
TUNED = ("--tune", "2")
PLUGIN = """from kdzoo import Strategy


class Mine(Strategy):
    \"\"\"COLOUR.\"\"\"

    name = "mine"

    def forward(self, student, teacher, batch):
        return {"gap": (student.logits - teacher.logits).square().mean()}
"""
_RUN = """
import sys
from importlib.abc import MetaPathFinder


class Refuse(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is refused")


sys.meta_path.insert(0, Refuse())
sys.argv[0] = "kdzoo"
from kdzoo.cli import main

main()
"""
HEAVY = ("torch", "timm", "torchvision", "accelerate")


class Place:
    """A folder with a plugin, its runs, and cache folders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plugin("mine.py", "green")

    def plugin(self, name: str, colour: str) -> None:
        (self.path / name).write_text(PLUGIN.replace("COLOUR", colour))

    def ask(
        self, *arguments: str, refused: tuple[str, ...] = (), cache: str = "cache"
    ) -> subprocess.CompletedProcess[str]:
        code = f"REFUSED = {refused!r}\n{_RUN}"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.path,
            env=os.environ | {"XDG_CACHE_HOME": str(self.path / cache)},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str, cache: str = "cache") -> str:
        """What a command prints, on standard output and then on standard error."""
        done = self.ask(*arguments, cache=cache)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def quickly(self, *arguments: str, cache: str = "cache") -> str:
        """The same, without importing torch."""
        done = self.ask(*arguments, refused=HEAVY, cache=cache)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def asks_torch(self, *arguments: str, cache: str = "cache") -> bool:
        """Whether a command needs what must not be imported."""
        return "is refused" in self.ask(*arguments, refused=HEAVY, cache=cache).stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where a bench was run, and strategies were looked at."""
    found = Place(tmp_path_factory.mktemp("quick"))
    found.run(*BENCH, *TUNED)
    found.run(*BENCH, "--dry-run")
    found.run("strategies", "--plugin", "mine.py", "show", "soft+mine")
    return found


@pytest.mark.parametrize(
    "command",
    [
        BENCH,
        (*BENCH, *TUNED),
        (*BENCH, *TUNED, "--dry-run"),
        ("strategies", "--plugin", "mine.py"),
        ("strategies", "--plugin", "mine.py", "show", "soft+mine"),
    ],
)
def test_what_is_known_is_printed_without_torch(
    command: tuple[str, ...], place: Place, request: pytest.FixtureRequest
) -> None:
    # Beside an empty cache everything is found out.
    assert place.quickly(*command) == place.run(*command, cache=f"empty {request.node.name}")


def test_boards_cards_and_other_benches_of_a_known_pair_need_no_torch(place: Place) -> None:
    assert "mine" in place.quickly("board")
    assert "green" in place.quickly("strategies", "--plugin", "mine.py", "show", "mine")
    assert "12 cells" in place.quickly(*BENCH, "--seeds", "4", "--dry-run").replace("13 cells", "12 cells")


@pytest.mark.parametrize("left", ["nothing", "damaged", "failed", "checkpoint"])
def test_a_bench_with_something_left_asks_torch(left: str, place: Place) -> None:
    out = place.path / left
    shutil.copytree(place.path / "runs", out)
    assert not place.asks_torch(*BENCH, "--out", left)
    record = next(path for path in out.glob("cells/*/record.json") if b'"mine"' in path.read_bytes())
    if left == "nothing":
        record.unlink()
    elif left == "checkpoint":
        (record.parent / "checkpoint-1").mkdir()
    else:
        record.write_bytes(record.read_bytes().replace(b'"done"', f'"{left}"'.encode()))
    assert place.asks_torch(*BENCH, "--out", left)


@pytest.mark.exhaustive
def test_a_changed_plugin_is_read_again(place: Place) -> None:
    place.plugin("other.py", "green")
    show = ("strategies", "--plugin", "other.py", "show", "mine")
    assert "green" in place.run(*show)
    assert "green" in place.quickly(*show)
    place.plugin("other.py", "blue")
    assert place.asks_torch(*show)
    assert "blue" in place.run(*show)


@pytest.mark.exhaustive
def test_a_damaged_cache_is_found_out_anew(place: Place) -> None:
    table = ("strategies", "--plugin", "mine.py")
    shutil.copytree(place.path / "cache", place.path / "damaged cache")
    expected = place.quickly(*table, cache="damaged cache")
    for path in (place.path / "damaged cache/kdzoo").glob("*.known"):
        path.write_bytes(path.read_bytes().replace(b"soft", b"hard"))
    assert place.asks_torch(*table, cache="damaged cache")
    assert place.run(*table, cache="damaged cache") == expected


def test_a_mistake_is_said_as_ever(place: Place) -> None:
    done = place.ask(*BENCH, "--strategies", "softt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown strategy 'softt'; did you mean soft?\n"
