"""What earlier commands found out and the next one need not: answers for which torch would have to be imported.

They are kept in the user's cache folder, in one file for each environment: the Python, the installed distributions, the
files of ``--plugin`` and the accelerators. Beside them stands a hash of all code that was loaded from elsewhere than
an installation: kdzoo itself, the packages of plugins, whatever they import. Where anything of it differs, or the file
is damaged, nothing is known, and everything is found out again. No torch here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kdzoo.cell import content_hash
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_KEPT, MOST_TEXT, atomic_write, cache_folder, read_plain
from kdzoo.jsontext import sealed, unsealed

MOST_CACHED = 2**23
"""Bytes of one file; what would be larger begins anew with what is found out now."""
MOST_CACHE_FILES = 16
"""Files in the cache folder; those that were not read for longest are dropped first."""
_MOST_CODE = 10_000
"""Files of code whose contents are looked at; where there are more, nothing is kept."""
_FORM = 1
_TICK_NS = 2 * 10**7
"""How far the clock of a file system may be behind."""
_began = time.time_ns()
_INSTALLED = (".dist-info", ".egg-info", ".egg-link", ".pth")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "PYTORCH_ENABLE_MPS_FALLBACK", "WORLD_SIZE", "ACCELERATE_USE_CPU")


class NotKnownError(Exception):
    """No earlier command found it out, or something that it may depend on has changed since."""


class Known:
    """Answers to questions, both plain values of JSON.

    Args:
        place: the file that keeps them; None for nowhere.
    """

    def __init__(self, place: Path | None) -> None:
        self._place = place
        # As text of JSON each, since the order of a mapping counts, as that of parameters does.
        self._answers = _read(place)
        self._new: dict[str, str] = {}

    @classmethod
    def open(cls, files: Sequence[Path] = ()) -> Known:
        """What is known here and now.

        Args:
            files: the files of ``--plugin``.
        """
        try:
            return cls(cache_folder() / f"{_environment(files)}.known")
        except (OSError, OddFileError, RuntimeError):  # a file of a plugin that cannot be read; somebody without a home
            return cls(None)

    def answer(self, question: Any) -> Any:
        """What was noted.

        Raises:
            NotKnownError: nothing was.
        """
        try:
            return json.loads(self._answers[content_hash(question)])
        except KeyError:
            raise NotKnownError(str(question)) from None

    def note(self, question: Any, answer: Any) -> None:
        """Note an answer; one that is no plain value is not kept."""
        with contextlib.suppress(TypeError, ValueError):
            self._new[content_hash(question)] = json.dumps(answer, allow_nan=False)

    def save(self) -> None:
        """Keep what was noted. That it cannot be written costs time and nothing else.

        Several processes may do so at once: one's answers replace the other's, and each file is whole.
        """
        if self._place is None or all(self._answers.get(key) == answer for key, answer in self._new.items()):
            return
        with contextlib.suppress(OSError):
            roots = sorted(set(_roots()))
            code = _code(roots, before=_began - _TICK_NS)
            if code is None:
                return
            for earlier in (_read(self._place), {}):
                value = {"form": _FORM, "roots": roots, "code": code, "answers": earlier | self._new}
                content = sealed(value).encode()
                if len(content) <= MOST_CACHED:
                    self._place.parent.mkdir(parents=True, exist_ok=True)
                    atomic_write(self._place, content)
                    _drop_oldest(self._place.parent)
                    return


def _read(place: Path | None) -> dict[str, str]:
    """The answers that a file keeps; none where it is missing, damaged, or of other code."""
    if place is None:
        return {}
    try:
        body, fits = unsealed(read_plain(place, MOST_KEPT))
        if not fits:
            return {}
        value = json.loads(body)
        if value["form"] != _FORM or value["code"] != _code(value["roots"]):
            return {}
        place.touch()  # the files in use are dropped last
        return dict(value["answers"])
    except (OSError, OddFileError, ValueError, KeyError, TypeError):
        return {}


def _drop_oldest(folder: Path) -> None:
    found = sorted(folder.glob("*.known"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found[MOST_CACHE_FILES:]:
        path.unlink(missing_ok=True)


def _environment(files: Sequence[Path]) -> str:
    """A hash of what is installed, of where it is looked for, and of the files of plugins."""
    given = [(str(path.absolute()), hashlib.sha256(read_plain(path, MOST_TEXT)).hexdigest()) for path in files]
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    accelerators = sorted(str(path) for path in Path("/dev").glob("nvidia*"))
    return content_hash([_FORM, sys.version, sys.path, list(_installed()), given, variables, accelerators])


def _installed() -> Iterator[tuple[str, int]]:
    """The distributions on the path, by the names of their folders, which hold their versions."""
    for folder in dict.fromkeys(sys.path):
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            yield from sorted(
                (entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(_INSTALLED)
            )


def _roots() -> Iterator[str]:
    """The packages and modules of this process that no distribution's version speaks for: kdzoo, plugins, and whatever
    was imported from outside of an installation."""
    named = {point.module.partition(".")[0] for point in importlib.metadata.entry_points(group="kdzoo")}
    standard = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name == "__main__" or (file is None and not hasattr(module, "__path__")):
            continue
        installed = file is not None and (
            "site-packages" in file or "dist-packages" in file or file.startswith(standard)
        )
        if name in named or not installed:
            # A package without an __init__.py has folders only; where they are installed, versions speak for them.
            places = getattr(module, "__path__", None) or [file]
            found = (Path(place).absolute() for place in places if file or "site-packages" not in str(place))
            yield from (str(place) for place in found if place.exists())


def _code(roots: Iterable[str], before: int | None = None) -> str | None:
    """A hash of the contents of all files below these folders; None where there are too many, or one has changed since.

    Args:
        roots: folders and files.
        before: nanoseconds; a file that was changed later may not be the code that was loaded.
    """
    total = hashlib.sha256()
    count = 0
    for root in roots:
        for path in sorted(_files(root)):
            count += 1
            if count > _MOST_CODE or (before is not None and os.stat(path).st_mtime_ns >= before):  # noqa: PTH116
                return None
            with open(path, "rb") as file:  # noqa: PTH123  (a third of Path's time)
                digest = hashlib.sha256(file.read())
            total.update(repr((path, digest.digest())).encode())
    return total.hexdigest()


def _files(root: str) -> Iterator[str]:
    if not os.path.isdir(root):  # noqa: PTH112
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (f"{folder}{os.sep}{name}" for name in names)
