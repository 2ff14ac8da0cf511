"""Whether a published folder is what it says: each fault is one line, and nothing in it can raise."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from xml.parsers import expat

from kdzoo.drawing import chart_digest, drawer, origin_of, png, svg
from kdzoo.errors import UsageError, counted
from kdzoo.foreign import visible
from kdzoo.leaderboard.charts.parts import Chart
from kdzoo.leaderboard.check.groups import group_faults
from kdzoo.leaderboard.check.records import record_faults, remarks
from kdzoo.leaderboard.check.studies import study_faults
from kdzoo.leaderboard.generate import Generated, generate
from kdzoo.leaderboard.layout import RECORDS, Leaderboard, read_leaderboard
from kdzoo.leaderboard.page.chartcode import library_of, own_library, without_library
from kdzoo.leaderboard.untrusted import Fault, UnreadableError, fault, read_bytes
from kdzoo.record import Record
from kdzoo.storefiles import is_store
from kdzoo.study import Study

MOST_PUBLISHED_BYTES = 1 << 26
"""Of a made file; a page of a thousand records takes a few million bytes."""


_SHAPES = frozenset(
    {"svg", "g", "path", "rect", "line", "text", "tspan", "circle", "ellipse", "polygon", "polyline", "title", "desc",
     "defs", "clipPath", "linearGradient", "radialGradient", "stop", "metadata"}
)  # fmt: skip
_PAINTS = frozenset({"fill", "stroke", "clip-path", "mask", "filter", "marker-start", "marker-mid", "marker-end"})


def generated_faults(folder: Path, leaderboard: Leaderboard, remarks: list[str]) -> list[Fault]:
    """What differs between the folder's made files and what its records give.

    Args:
        folder: the published folder.
        leaderboard: what was read from it.
        remarks: gets a line for plots that are drawn otherwise here, and so cannot be compared.
    """
    drawers: Counter[str] = Counter()
    tests = _tests(generate(leaderboard, with_library=False), drawers)
    faults = [fault(path, "is not made from these records") for path in leaderboard.others if path not in tests]
    there = set(leaderboard.others)
    for path, test in tests.items():
        if path not in there:
            faults.append(fault(path, "is missing"))
            continue
        try:
            reason = test(read_bytes(folder / path, MOST_PUBLISHED_BYTES))
        except UnreadableError as error:
            reason = str(error)
        if reason:
            faults.append(fault(path, reason))
    remarks += [
        f"plots not compared: {count:,} drawn by {who}, and here by {drawer()}"
        for who, count in sorted(drawers.items())
    ]
    return faults


def advice(folder: Path, made: int) -> str:
    """What to do about so many faults of made files; nothing without any."""
    if not made:
        return ""
    command = shlex.join(["kdzoo", "publish", "--refresh", "--to", str(folder)])
    return (
        f"{counted(made, 'generated file')} {'is' if made == 1 else 'are'} not what the records give: a record "
        f"may have been changed or removed, so first compare {folder / RECORDS} with version control; if the "
        f"records are right, "
        f"`{visible(command)}` regenerates the files"
    )


def _tests(made: Generated, drawers: Counter[str]) -> dict[PurePosixPath, Callable[[bytes], str]]:
    """Path -> what tells why a content is not the one that belongs there."""
    tests: dict[PurePosixPath, Callable[[bytes], str]] = {}
    for path, text in made.texts.items():
        tests[path] = partial(_text_fault, text=text)
    for path, page in made.pages.items():
        tests[path] = partial(_page_fault, page=page)
    for path, chart in made.charts.items():
        for suffix in (".svg", ".png"):
            test = partial(_redrawn_fault, chart=chart, suffix=suffix, drawers=drawers)
            tests[path.with_name(path.name + suffix)] = test
    return tests


def _redrawn_fault(content: bytes, chart: Chart, suffix: str, drawers: Counter[str]) -> str:
    """As :func:`drawing_fault`; a drawing that says that it was drawn as they are drawn here must be so to the byte."""
    if reason := drawing_fault(content, chart, suffix):
        return reason
    found = origin_of(content)
    if found and found.drawer != drawer():
        drawers[found.drawer] += 1
        return ""
    return "" if content == (svg if suffix == ".svg" else png)(chart) else "does not show these records"


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


class _ActiveError(Exception):
    """What a drawing would do."""


def drawing_fault(content: bytes, chart: Chart, suffix: str) -> str:
    """Why a file is not the drawing of a chart; empty where it is.

    It is compared by the digest that it says it was drawn from, and not drawn again.

    Args:
        content: the file.
        chart: what it must have been drawn from.
        suffix: ``.svg`` or ``.png``.
    """
    if content.startswith(b"\x89PNG") != (suffix == ".png"):
        return f"is no {suffix[1:].upper()}"
    found = origin_of(content)
    if found is None:
        return "does not say what it was drawn from, so this kdzoo did not draw it, or it is damaged"
    if found.digest != chart_digest(chart):
        return "was drawn from other records"
    return _active(content) if suffix == ".svg" else ""


def _active(content: bytes) -> str:
    """What an SVG would do beside showing shapes and words: run scripts, load or link something."""

    def start(name: str, attributes: dict[str, str]) -> None:
        if name not in _SHAPES:
            raise _ActiveError(f"the element {name}")
        for key, value in attributes.items():
            acts = key.lower().startswith("on") or key.lower().endswith(("href", "style"))
            loads = key in _PAINTS and "url(" in value.lower() and not value.lower().startswith("url(#")
            if acts or loads:
                raise _ActiveError(f"the attribute {key} of {name}")

    def refuse(*_: object) -> None:
        raise _ActiveError("a declaration or an instruction")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(content, True)
    except _ActiveError as error:
        return f"holds {error}, which a plot cannot contain"
    except expat.ExpatError as error:
        return f"is no XML ({error})"
    return ""


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        leaderboard: what could be read.
        faults: file and reason, sorted.
        remarks: what is no fault.
        advice: what to do about made files that differ; empty where none does.
    """

    leaderboard: Leaderboard
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]
    advice: str = ""

    def summary(self, faults: int, measured: int | None = None) -> str:
        """The outcome in one line, with so many faults, and so many students measured again, if that was asked for."""
        found = f"{len(self.leaderboard.records):,} records and {len(self.leaderboard.studies):,} studies"
        if measured is not None:
            found += f", {counted(measured, 'student')} measured again"
        return f"{found}: {f'{faults:,}' if faults else 'no'} fault{'' if faults == 1 else 's'}"


def check_leaderboard(folder: Path) -> CheckReport:
    """Check a published folder, which may be hostile.

    Args:
        folder: where.

    Raises:
        UsageError: it is no published folder.
    """
    if not (folder / RECORDS).is_dir():
        if is_store(folder):
            raise UsageError(
                f"{folder} is a folder of runs; `kdzoo publish {folder} --to FOLDER` publishes it, and `kdzoo check "
                "FOLDER` checks what was published"
            )
        raise UsageError(f"{folder} is not a published folder (it has no folder {RECORDS}); give the folder after --to")
    leaderboard = read_leaderboard(folder)
    faults = [*leaderboard.faults, *content_faults(leaderboard.records, leaderboard.studies)]
    notes = remarks(leaderboard.records)
    made: list[Fault] = []
    if leaderboard.complete:
        made = generated_faults(folder, leaderboard, notes)
    else:
        notes.append("the generated files were not compared, because not all records could be read")
    return CheckReport(leaderboard, tuple(sorted(faults + made)), tuple(notes), advice(folder, len(made)))


def content_faults(records: Sequence[Record], studies: Sequence[Study]) -> list[Fault]:
    """What is wrong with records and studies as such, wherever they stand."""
    return sorted([*record_faults(records), *group_faults(records), *study_faults(records, studies)])
