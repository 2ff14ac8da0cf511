"""The files of a published folder that are made from records, compared with what the records give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from kdzoo.leaderboard.drawings import drawing_fault
from kdzoo.leaderboard.generate import Generated, generate
from kdzoo.leaderboard.layout import Leaderboard
from kdzoo.leaderboard.page import library_of, own_library, without_library
from kdzoo.leaderboard.reading import Fault, UnreadableError, fault, read_bytes

MOST_BYTES = 1 << 26
"""Of a made file; a page of a thousand records takes a few million bytes."""

_REFRESH = "; `kdzoo publish --refresh` makes the folder's files anew"


def generated_faults(folder: Path, leaderboard: Leaderboard) -> list[Fault]:
    """What differs between the folder's made files and what its records give.

    Args:
        folder: the published folder.
        leaderboard: what was read from it.
    """
    tests = _tests(generate(leaderboard, with_library=False))
    faults = [
        fault(path, f"is not made from these records{_REFRESH}") for path in leaderboard.others if path not in tests
    ]
    there = set(leaderboard.others)
    for path, test in tests.items():
        if path not in there:
            faults.append(fault(path, f"is missing{_REFRESH}"))
            continue
        try:
            reason = test(read_bytes(folder / path, MOST_BYTES))
        except UnreadableError as error:
            reason = str(error)
        if reason:
            faults.append(fault(path, reason + _REFRESH))
    return faults


def _tests(made: Generated) -> dict[PurePosixPath, Callable[[bytes], str]]:
    """Path -> what tells why a content is not the one that belongs there."""
    tests: dict[PurePosixPath, Callable[[bytes], str]] = {}
    for path, text in made.texts.items():
        tests[path] = partial(_text_fault, text=text)
    for path, page in made.pages.items():
        tests[path] = partial(_page_fault, page=page)
    for path, chart in made.charts.items():
        for suffix in (".svg", ".png"):
            tests[path.with_name(path.name + suffix)] = partial(drawing_fault, chart=chart, suffix=suffix)
    return tests


def _text_fault(content: bytes, text: str) -> str:
    return "" if content == text.encode() else "differs from what the records give"


def _page_fault(content: bytes, page: str) -> str:
    """Why a page is not the one that the records give; empty where it is."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    if without_library(text) != without_library(page):
        return "differs from what the records give"
    library = library_of(text)
    if library is None:
        return "lacks the library that draws its charts"
    if library != own_library():
        return f"holds another library ({library[0]}) than this installation ({own_library()[0]})"
    return ""
