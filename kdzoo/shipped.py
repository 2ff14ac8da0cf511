"""The benches and recipes that come with kdzoo, and files of the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from kdzoo.errors import OddFileError, UsageError, unknown
from kdzoo.files import MOST_TEXT, from_home, read_plain
from kdzoo.yamltext import read_mapping


def read_yaml(kind: Literal["bench", "recipes"], source: str) -> dict[str, Any]:
    """The mapping in a shipped file (``quick``) or in a file of the user's own (``path/to/mine.yaml``).

    Raises:
        UsageError: there is no such file, or it is not a YAML mapping; the line is named.
    """
    path = Path(from_home(source))
    if source in shipped(kind):
        text = (_folder(kind) / f"{source}.yaml").read_text(encoding="utf-8")
    elif path.suffix in (".yaml", ".yml") or _is_file(path):
        try:
            text = read_plain(path, MOST_TEXT).decode()
        except OddFileError as error:
            raise UsageError(f"{source} {error}; give a YAML file") from None
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {(error.strerror or str(error)).lower()}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{source} cannot be read: it is not UTF-8 text") from None
    else:
        noun = {"bench": "bench", "recipes": "recipe"}[kind]
        raise UsageError(f"{unknown(noun, source, shipped(kind))} (a file of your own ends in .yaml)")
    return read_mapping(text, source)


def shipped(kind: Literal["bench", "recipes"]) -> list[str]:
    """Names of the benches or recipes that come with kdzoo."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder(kind).iterdir() if path.name.endswith(".yaml"))


def _folder(kind: str) -> Any:
    package = resources.files("kdzoo")
    installed = package / "configs" / kind
    # In a checkout installed in place the files are still where they are edited, beside the package.
    return installed if installed.is_dir() else Path(str(package)).parent / "configs" / kind


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, for example
        return False
