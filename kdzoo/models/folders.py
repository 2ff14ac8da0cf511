"""Models of a folder (``local-dir:``): named by what is in the folder, found by where it was given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from kdzoo.cell import content_hash
from kdzoo.errors import OddFileError, UsageError
from kdzoo.files import MOST_TEXT, from_home, read_plain
from kdzoo.refs import ModelRef

PREFIX = "local-dir:"
_NAMED = re.compile(r"local-dir:[A-Za-z0-9_]+@[0-9a-f]{16}")
_FOUND: dict[str, Path] = {}
"""Where the folders of this process are, by the names that their content gives them."""


def name_by_content(ref: ModelRef) -> ModelRef:
    """The name of a folder's model that cells, boards and published records have: ``local-dir:ARCHITECTURE@HASH``.

    The hash is of its ``config.json``, which says what network it is; a hash of the weights stands in a cell wherever
    they count. So a folder may be moved or renamed, and its path is nowhere. Other models keep their names.

    Raises:
        UsageError: the folder is not there, or is none that timm or the hub has made.
    """
    if not ref.name.startswith(PREFIX) or ref.name in _FOUND:
        return ref
    folder = Path(from_home(ref.name.removeprefix(PREFIX)))
    try:
        config = _read(folder / "config.json")
        name = f"{PREFIX}{config['architecture']}@{content_hash(config)}"
    except (OSError, OddFileError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"the model {ref} cannot be looked up: {folder} needs a config.json with the architecture, as timm writes "
            f"for the hub ({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from None
    if not _NAMED.fullmatch(name):
        raise UsageError(f"the model {ref} cannot be looked up: {config['architecture']!r} is no architecture of timm")
    _FOUND[name] = folder.absolute()
    return ref.model_copy(update={"name": name})


def timm_name(ref: ModelRef) -> str:
    """What timm is asked for: the model's name, or the path of its folder.

    Raises:
        UsageError: the folder is not known in this process.
    """
    if not _NAMED.fullmatch(ref.name):
        return ref.name
    folder = _FOUND.get(ref.name)
    if folder is None or not folder.is_dir():
        place = f"is not at {folder} here" if folder else "was not given"
        raise UsageError(f"the folder of the model {ref} {place}: name it by its path, as local-dir:PATH")
    return f"{PREFIX}{folder}"


def known_folders() -> dict[str, Path]:
    """The folders of this process, for another one."""
    return dict(_FOUND)


def remember_folders(folders: Mapping[str, Path]) -> None:
    """Take over another process's folders."""
    _FOUND.update(folders)


def _read(path: Path) -> dict[str, object]:
    value = json.loads(read_plain(path, MOST_TEXT))
    if not isinstance(value, dict):
        raise TypeError(f"{path.name} is not a mapping")
    return value


def require_folder(model: ModelRef) -> None:
    """See that the folder of a model is known in this process, if it is the model of one.

    Raises:
        UsageError: it is not.
    """
    try:
        timm_name(model)
    except UsageError:
        raise UsageError(f"{model} is the model of a folder, which is not known here; give it by --model") from None
