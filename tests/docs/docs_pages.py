"""The documentation's pages, taken apart: fenced blocks, commands, links."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from typer.testing import CliRunner

from kdzoo.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

_FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`(kdzoo [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: the language, the file that it stands for (or none), its text, and its first line's number."""

    language: str
    title: str | None
    text: str
    line: int


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[Block]:
    text = read(name)
    return [
        Block(match["language"], match["title"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
        if match["language"] == language
    ]


def shown_commands(name: str) -> list[str]:
    """The ``kdzoo`` commands of the console blocks; what they print is left out."""
    lines = [line for block in blocks(name, "console") for line in block.text.splitlines()]
    pieces = [piece for line in lines if line.startswith("$ ") for piece in line.removeprefix("$ ").split(" && ")]
    return [piece for piece in pieces if piece.startswith("kdzoo ")]


def inline_commands(name: str) -> list[str]:
    """The ``kdzoo`` commands inside sentences."""
    prose = _FENCE.sub("", read(name))
    return [" ".join(command.split()) for command in _INLINE.findall(prose)]


def write_files(name: str, folder: Path) -> None:
    """Write the blocks that stand for a file."""
    for language in ("python", "toml", "yaml"):
        for block in blocks(name, language):
            if block.title:
                path = folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")


def execute(name: str) -> dict[str, Any]:
    """Run a page's Python blocks in order, in one namespace."""
    namespace: dict[str, Any] = {"__name__": "docs_page"}
    for block in blocks(name, "python"):
        text = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's own lines
        exec(compile(text, name, "exec"), namespace)
    return namespace


def prose_links(name: str) -> Iterator[str]:
    """The targets of the Markdown links outside of fenced blocks."""
    yield from re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", read(name)))


def anchors(name: str) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", read(name)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_kdzoo(command: str, *more: str) -> str:
    """Run a command line in this process and give what it prints on standard output; it must succeed."""
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], *more])
    assert result.exit_code == 0, f"{command}: {result.output}{result.exception!r}"
    return result.stdout


def tool(name: str) -> ModuleType:
    """docs/generate.py or docs/reference.py as a module."""
    folder = str(ROOT / "docs")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
