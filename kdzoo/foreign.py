"""Texts of other people's code: of errors, names, notes. Bounded, without characters that act, and always there.

No torch here.
"""

from __future__ import annotations

import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from kdzoo.errors import raise_if_interrupted

MOST_SHOWN = 1_000
"""Characters of a sentence."""

MOST_OF_A_REASON = 2_000
"""Characters of a record's reason on a board; those that are recorded today are shorter."""

MOST_OF_A_STORY = 20_000
"""Characters of a traceback, half of them from its end."""

_MOST_OF_A_NAME = 100
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line \d+, in ')


def visible(text: str, keep: str = "") -> str:
    r"""Control, formatting and line-breaking characters written out (``\n``, ``\x1b``), so that none acts.

    Args:
        text: any text.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _HIDDEN and character not in keep
        else character
        for character in text
    )


def printable(text: str, most: int = 500) -> str:
    """A text that is visible and of at most so many characters, with an ellipsis for what is left out."""
    text = visible(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def bounded(text: str, most: int = MOST_SHOWN) -> str:
    """At most so many characters, and a note of how many were left out."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} characters more)"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are. They may come from a file, so nothing in them acts."""
    shown = ", ".join(repr(bounded(name)) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def line(text: str, most: int = MOST_SHOWN) -> str:
    """The first line of a text, bounded and visible."""
    return visible(bounded(_BREAK.split(text.strip(), maxsplit=1)[0], most))


def text_of(value: object) -> str:
    """The text of a value; where it has none, in brackets what came instead."""
    try:
        return str.__str__(str(value))  # of a subclass, the plain text
    except BaseException as error:
        raise_if_interrupted(error)
        return f"(its text cannot be made: {name_of(error)})"


def name_of(error: BaseException) -> str:
    """The name of an error's class."""
    try:
        return line(str.__str__(type(error).__name__), _MOST_OF_A_NAME)
    except BaseException as fault:
        raise_if_interrupted(fault)
        return "an error without a name"


def sentence(error: BaseException, homes: Iterable[Path] = ()) -> str:
    """An error in one line: its class, its text, and where it comes from.

    Args:
        error: as it was caught.
        homes: folders and files of the code that is asked about; see :func:`line_of`.
    """
    text = f"{name_of(error)}: {line(text_of(error))}".rstrip(": ")
    place = place_of(error, homes)
    return f"{text} ({place})" if place else text


def homes_of(thing: object) -> tuple[Path, ...]:
    """The folders and files of the code that made a thing; empty for kdzoo's own."""
    module = type(thing).__module__
    return () if module.partition(".")[0] == "kdzoo" else module_homes(module)


def homes_of_samples(samples: object) -> tuple[Path, ...]:
    """The same of samples, also where a part of them was taken."""
    return homes_of(getattr(samples, "samples", samples))


def place_of(error: BaseException, homes: Iterable[Path]) -> str:
    """:func:`line_of`, empty also where an error does not let itself be asked."""
    try:
        return line(line_of(error, homes))
    except BaseException as fault:
        raise_if_interrupted(fault)
        return ""


def story_of(error: BaseException) -> str:
    """The whole traceback of an error, bounded."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as fault:
        raise_if_interrupted(fault)
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        text = f"Traceback (most recent call last):\n{''.join(frames)}{sentence(error)}\n"
    return story(text)


def story(text: str) -> str:
    """A text of many lines, each of them bounded, and the whole, of which the beginning and the end stay; visible."""
    text = "\n".join(bounded(each) for each in text.split("\n"))
    half = MOST_OF_A_STORY // 2
    left_out = len(text) - 2 * half
    if left_out > 0:
        text = f"{text[:half]}\n... ({left_out:,} characters more) ...\n{text[-half:]}"
    return visible(text, keep="\n\t")


def module_homes(module: str) -> tuple[Path, ...]:
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
