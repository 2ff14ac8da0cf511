"""A virtual environment of a third party: it has what kdzoo depends on, and of kdzoo only what is installed into it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

from waiting import finish, output_of, start


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the folder in which its commands run.

    Args:
        folder: the environment.
        work: where commands run; as empty as its user leaves it.
        variables: environment variables of its commands.
    """

    folder: Path
    work: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def site(self) -> Path:
        """Where its own distributions are installed."""
        return site_of(self.folder)

    @property
    def programs(self) -> Path:
        """Where its programs are."""
        return Path(sysconfig.get_path("scripts", "venv", {"base": str(self.folder)}))

    def start(self, program: str, *arguments: object) -> subprocess.Popen[str]:
        """Start one of its programs."""
        return start(self.programs / program, *arguments, cwd=self.work, env={**self.variables})

    def run(self, program: str, *arguments: object, code: int = 0) -> str:
        """Run one of its programs, which must end with ``code``; what it printed on standard output."""
        process = self.start(program, *arguments)
        out, err = finish(process)
        assert process.returncode == code, f"{program} {arguments}: {process.returncode}\n{out}\n{err}"
        return out


def make_environment(folder: Path) -> Environment:
    """A fresh environment that borrows the running one's libraries, all but kdzoo and its plugins.

    The libraries are links: a path to the running environment would show its kdzoo too, editable or not.
    """
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    work = folder / "work"
    work.mkdir()
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}
    borrow(folder / "venv", folder / "borrowed")
    return Environment(folder / "venv", work, variables)


def site_of(environment: Path) -> Path:
    """Where the distributions of a virtual environment are installed, on any system."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def borrow(environment: Path, links: Path) -> None:
    """Show a virtual environment the running one's libraries, all but kdzoo and its plugins.

    Args:
        environment: the environment's folder.
        links: a new folder for the links.
    """
    links.mkdir()
    for path in _libraries():
        if not (links / path.name).exists():
            (links / path.name).symlink_to(path)
    (site_of(environment) / "borrowed.pth").write_text(f"{links}\n", encoding="utf-8")


def _libraries() -> Iterator[Path]:
    """What is importable in the running environment, and its metadata, without kdzoo, its plugins and path files."""
    ours = [each for each in distributions() if _is_ours(each)]
    left_out = {"kdzoo", "__pycache__"} | {part for each in ours for part in _top_level(each)}
    for folder in map(Path, sys.path):
        if folder.name in ("site-packages", "dist-packages") and folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.name not in left_out and path.suffix != ".pth" and not path.name.startswith("__editable__"):
                    yield path


def _is_ours(distribution: Distribution) -> bool:
    return distribution.name == "kdzoo" or any(point.group == "kdzoo" for point in distribution.entry_points)


def _top_level(distribution: Distribution) -> Iterable[str]:
    return {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}


def build_wheel(source: Path, target: Path) -> Path:
    """Build a distribution's wheel with the running environment's tools, without a network; where it lies."""
    target.mkdir()
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", target, source)
    (wheel,) = target.glob("*.whl")
    return wheel


def install(environment: Environment, *wheels: Path) -> None:
    """Install wheels as a user does; what they depend on must be there already, in the versions that they ask for."""
    _pip("--python", environment.programs / "python", "install", "--no-index", "--no-compile", *wheels)


def _pip(*arguments: object) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    output_of(*words, env=environment)
