"""Which line of a plugin an error comes from, and what of a traceback is the plugin's own. No torch here."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line \d+, in ')


def homes(module: str) -> tuple[Path, ...]:
    """The folders of a module's top-level package, or its file where it is in none; empty where that is unknown."""
    top = module.partition(".")[0]
    spec = getattr(sys.modules.get(top), "__spec__", None)
    if spec is None and top not in sys.modules:
        spec = find_spec(top)
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(Path(place) for place in spec.submodule_search_locations)
    return (Path(spec.origin),) if spec.origin else ()


def line_of(error: BaseException, homes: Iterable[Path]) -> str:
    """``file.py:line`` of the innermost frame of an error that lies in a plugin; empty where none does.

    Args:
        error: as it was caught.
        homes: the plugin's folders and files.
    """
    homes = tuple(homes)
    if isinstance(error, SyntaxError) and error.filename and _within(error.filename, homes):
        return f"{Path(error.filename).name}:{error.lineno}"
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if _within(frame.filename, homes)]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else ""


def from_plugin(story: str, homes: Iterable[Path]) -> str:
    """A printed traceback from the first frame on that lies in a plugin; all of it where none does.

    Args:
        story: as :func:`traceback.format_exc` writes it.
        homes: the plugin's folders and files.
    """
    homes = tuple(homes)
    lines = story.splitlines(keepends=True)
    for place, line in enumerate(lines):
        frame = _FRAME.match(line)
        if frame and _within(frame["file"], homes):
            return "Traceback (most recent call last), from the plugin on:\n" + "".join(lines[place:])
    return story


def _within(file: str, homes: Iterable[Path]) -> bool:
    path = Path(file)
    return any(path == home or home in path.parents for home in homes)
