"""What a record loses when it is published: where its owner keeps things. What was measured stays as it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from kdzoo.foreign import printable
from kdzoo.record import Record, schema_of
from kdzoo.study import STUDY_SCHEMA, Study

PLACE = "PATH"
"""Stands in the place of a local folder."""

_LONGEST = 200
"""Characters of a text that are shown."""

_OWN_PLACES = {"--out": "OUT", "--data-dir": "DATA"}
"""Options whose value says only where things are kept, whether or not it is an absolute path."""

# From the root, from home, from a Windows drive or a network share, to the next character that ends a path in a text.
_ABSOLUTE = re.compile(r"""(?<![\w.:/\\\]-])(?:file://|~|[A-Za-z]:[\\/]|\\\\|/)[^\s'"<>|,;]+""")
# In a name, which may hold any character: at its beginning, as an argument, or behind a word that says what follows.
_NAMED = re.compile(r"""(?:^|=|\b(?:local-dir|folder|file):)(?:file://|~/|[A-Za-z]:[\\/]|\\\\|/)\w""", re.IGNORECASE)
_FILE = re.compile(r"[^\s/\\]+\.(py|ya?ml|json|npz|safetensors|pth|pt|bin|ckpt)\b")


def publishable(record: Record) -> Record:
    """The record as it is published.

    The traceback is left out. In the command and in the reason of a failure, absolute paths become ``PATH``; the name
    of a file stays, that of a folder does not. In the command, the values of ``--out`` and ``--data-dir`` become
    ``OUT`` and ``DATA``. A record of an older schema is written in today's form.
    """
    return record.model_copy(
        update={
            "record_schema": schema_of(record.cell, record.found),
            "traceback": "",
            "command": hide_in_command(record.command),
            "reason": hide_paths(record.reason),
        }
    )


def publishable_study(study: Study) -> Study:
    """The study as it is published: in today's form, without absolute paths in the reasons of its failures."""
    trials = tuple(trial.model_copy(update={"reason": hide_paths(trial.reason)}) for trial in study.trials)
    return study.model_copy(update={"study_schema": STUDY_SCHEMA, "trials": trials})


def hide_in_command(command: str) -> str:
    """A command line without local places."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote: no shell has run this, and it is treated as any text
        return hide_paths(command)
    hidden: list[str] = []
    for word in words:
        option, equals, _ = word.partition("=")
        if hidden and hidden[-1] in _OWN_PLACES:
            hidden.append(_OWN_PLACES[hidden[-1]])
        elif equals and option in _OWN_PLACES:
            hidden.append(f"{option}={_OWN_PLACES[option]}")
        else:
            hidden.append(_hide_in_word(word))
    return shlex.join(hidden)


def _hide_in_word(word: str) -> str:
    """A word of a command, in which a path may hold spaces."""
    parts = word.split("=")
    for place, part in enumerate(parts):
        if _ABSOLUTE.match(part):
            return "=".join([*parts[:place], _placeholder("=".join(parts[place:]))])
    return hide_paths(word)


def hide_paths(text: str) -> str:
    """A text without absolute paths."""
    return _ABSOLUTE.sub(lambda found: _placeholder(found.group()), text)


def place_named_in(value: Record | Study) -> str:
    """What is wrong with a record or study that names a local path where nothing can stand in its place, as in the name
    of a cell's model; empty where it names none."""
    found = next(_places(value.model_dump(mode="json")), "")
    if not found:
        return ""
    return (
        f"names a local path, {printable(found, _LONGEST)!r}; kdzoo bench names models and data of a folder by "
        f"their content, so retrain it"
    )


def _places(value: Any) -> Iterator[str]:
    """The texts anywhere in a plain value that hold an absolute path."""
    if isinstance(value, str):
        if _NAMED.search(value):
            yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _places(key)
            yield from _places(one)
    elif isinstance(value, list):
        for one in value:
            yield from _places(one)


def _placeholder(path: str) -> str:
    """``PATH``, with the name of the file if it ends in one: folders name people, files say what was used."""
    name = re.split(r"[/\\]", path)[-1]
    return f"{PLACE}/{name}" if _FILE.match(name) else PLACE
