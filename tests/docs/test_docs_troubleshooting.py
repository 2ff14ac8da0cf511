"""Every error that docs/troubleshooting.md quotes is provoked, and is said in the quoted words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from docs_pages import blocks, read, write_files

from kdzoo.cli import main

PAGE = "docs/troubleshooting.md"
QUOTED: list[tuple[str, list[str]]] = []
for _block in blocks(PAGE, "text"):
    for _line in _block.text.splitlines():
        if _line.startswith("$ "):
            QUOTED.append((_line.removeprefix("$ "), []))
        else:
            QUOTED[-1][1].append(_line)


def _plain(text: str) -> str:
    """Without line breaks, and without the accuracy of an untrained network, which rounding may change."""
    return re.sub(r"(scores |chance \()[\d.]+%", r"\1N%", " ".join(text.split()))


@pytest.mark.parametrize(("command", "lines"), QUOTED, ids=[command for command, _ in QUOTED])
def test_error_is_told_in_these_words(
    command: str,
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        main()
    said = _plain("".join(capsys.readouterr()))
    trained = any(line.startswith("FAILED: ") for line in lines)
    assert end.value.code == (1 if trained else 2), said
    assert lines
    for line in lines:
        assert _plain(line) in said
    assert (tmp_path / "runs").exists() == trained


def test_there_are_ten_and_each_is_quoted() -> None:
    sections = re.split(r"^## (\d+)\. ", read(PAGE), flags=re.MULTILINE)[1:]
    assert [int(number) for number in sections[::2]] == list(range(1, 11))
    assert all("```text\n$ kdzoo bench" in text for text in sections[1::2])
