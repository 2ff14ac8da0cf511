"""What a page tells of one row when it is chosen: its seeds and records, learning curves, and how to train it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kdzoo.board.labels import OWN_DISTRIBUTION, params_text
from kdzoo.board.printed import RowValues
from kdzoo.cell import canonical_json
from kdzoo.foreign import visible
from kdzoo.leaderboard.layout import path_of_record
from kdzoo.needed import trainings
from kdzoo.record import Record
from kdzoo.study import Study

Detail = dict[str, Any]


class Details:
    """Tells of rows.

    Args:
        records: those the board was made of, in any order.
        studies: likewise.
        record_url: a record's URL, relative to the page.
        study_url: a study's.
    """

    def __init__(
        self,
        records: Iterable[Record],
        studies: Iterable[Study],
        record_url: Callable[[Record], str],
        study_url: Callable[[Study], str] | None,
    ) -> None:
        self._records: dict[tuple[str, int], Record] = {}
        for record in records:
            key = (record.id, record.evaluation)
            twin = self._records.get(key)
            self._records[key] = record if twin is None else max(twin, record, key=_precedence)
        self._studies = {study.id: study for study in studies}
        self._record_url, self._study_url = record_url, study_url

    def of(self, row: RowValues) -> Detail:
        """Everything that the page shows of a row beside its line, as JSON."""
        found = [self._records.get((name, row["evaluation"])) for name in row["records"].split()]
        records = [record for record in found if record is not None]
        won = [self._studies[name] for name in (row["study"] or "").split() if name in self._studies]
        detail: Detail = {
            "settings": visible(params_text(row["params"])),
            "seeds": [self._seed(record) for record in records],
            "studies": [self._study(study) for study in won],
        }
        if records:
            last = max(records, key=lambda record: record.cell.seed)
            command, needs = repetition(records)
            detail |= {"command": visible(command), "needs": [visible(need) for need in needs]}
            detail |= {"ran": visible(records[0].command), "versions": _versions(records)}
            detail["teacher"] = self._teacher(last, row["evaluation"])
        return detail

    def _seed(self, record: Record) -> list[Any]:
        """Seed, id, URL, the score on test or why there is none, and the curve."""
        main = record.main
        score = record.test[main.name] if record.status == "done" and record.test else None
        curve = [None if line.score is None else round(line.score, main.digits) for line in record.curve]
        result = round(score, main.digits + 2) if score is not None else visible(f"{record.status}: {record.reason}")
        return [record.cell.seed, record.id, safe_url(self._record_url(record)), result, curve]

    def _study(self, study: Study) -> list[str]:
        return [study.id, safe_url(self._study_url(study)) if self._study_url else ""]

    def _teacher(self, record: Record, evaluation: int) -> list[str]:
        """Id and URL of the record of the teacher's training; nothing where it is not here, or one of several."""
        made = [each for each in trainings(record.cell) if each.kind == "teacher"]
        found = self._records.get((made[0].id, evaluation)) if len(made) == 1 else None
        return [found.id, safe_url(self._record_url(found))] if found else []


def repetition(records: Sequence[Record]) -> tuple[str, list[str]]:
    """The command that trains the seeds of a row again, run beside the page's folder, and what it needs.

    Args:
        records: of one row.
    """
    cell = records[0].cell
    flags, needs = list[str](), list[str]()
    if cell.data.name.startswith("folder:"):
        flags.append("--dataset folder:PATH")
        needs.append(f"PATH is the folder of images {cell.data.name}")
    if cell.teacher and cell.teacher.weights == "file":
        flags.append("--teacher-weights FILE")
        needs.append(f"FILE holds the teacher's weights, and has the SHA-256 {cell.teacher.digest}")
    for model in cell.models:
        if model.name.startswith("local-dir:"):
            flags.append("--model FOLDER")
            needs.append(f"FOLDER is that of the model {model}, named after a hash of its config.json")
    origins, revisions = cell.strategy.distribution.split("+"), cell.strategy.revision.split("+")
    if len(origins) == 1:
        origins *= len(revisions)
    for origin, revision in dict.fromkeys(zip(origins, revisions, strict=False)):
        if origin == "file":
            flags.append("--plugin PLUGIN.py")
            needs.append(f"PLUGIN.py has a SHA-256 that begins with {revision}")
        elif origin != OWN_DISTRIBUTION:
            needs.append(f"the package {origin} must be installed")
    paths = [shlex.quote(str(path_of_record(record))) for record in records]
    return " ".join(["kdzoo run-cell", *paths, *flags]), needs


def _precedence(record: Record) -> tuple[bool, str, str]:
    """As on the board: done before failed, then the later one."""
    return record.status == "done", record.ended, canonical_json(record.model_dump(mode="json"))


def _versions(records: Sequence[Record]) -> str:
    """Where and with what it was trained, once for each environment."""
    return visible("; ".join(sorted({_environment(record.environment.versions, record) for record in records})))


def _environment(versions: Mapping[str, str], record: Record) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    threads = record.environment.threads
    return f"{packages}; {record.environment.device}, {threads} thread{'' if threads == 1 else 's'}"


_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_ADDRESS = re.compile(r"(https?://\S+|(\.{0,2}/)?[\w./-]+\.(md|html)(#[\w.-]*)?|#[\w.-]+)")


def safe_url(url: str) -> str:
    """The address, if it is a relative one or one of the web; else nothing, so that no address runs a script."""
    # A browser cuts spaces off before it looks for a scheme.
    printable = url.isprintable() and url == url.strip() and not url.startswith(("//", "/\\", "\\"))
    scheme = _SCHEME.match(url)
    return url if printable and (scheme is None or scheme.group().lower() in ("http:", "https:")) else ""


def is_address(text: str) -> bool:
    """Whether a card is the address of a page, and not the card itself."""
    return _ADDRESS.fullmatch(text) is not None and bool(safe_url(text))
