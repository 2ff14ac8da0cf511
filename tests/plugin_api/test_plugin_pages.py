"""docs/api.md, docs/hooks.md and docs/combinations.md say what there is, and their examples work."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import output_of

import kdzoo as public
from kdzoo import hookspecs
from kdzoo import testing as kit

DOCS = Path(__file__).parents[2] / "docs"
SMALL = (
    *("--dataset", "digits[:120]", "--teacher", "test_efficientnet", "--img-size", "16", "--device", "cpu"),
    *("--seeds", "1", "--epochs", "1", "--teacher-epochs", "8"),
    *("--set", "recipe.batch_size=16", "--set", "recipe.lr=0.02"),
)


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def files(page: str) -> dict[str, str]:
    """The Python blocks that stand for a file, by its name."""
    return dict(re.findall(r'^```python title="([\w.]+)"\n(.*?)^```$', read(page), re.MULTILINE | re.DOTALL))


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line)[2:] for line in re.findall(r"^\$ kdzoo .+$", read(page), re.MULTILINE)]


def hooks() -> list[str]:
    return [name for name, value in vars(hookspecs).items() if hasattr(value, "kdzoo_spec")]


def test_every_public_name_has_its_line_and_no_other() -> None:
    tables = read("api.md").partition("## Public names")[2]
    listed = re.findall(r"^\| `(\w+)` \| (\S.*) \|$", tables, re.MULTILINE)
    assert sorted(name for name, _ in listed if name not in kit.__all__) == sorted(public.__all__)


def test_every_name_of_the_kit_is_listed() -> None:
    _, _, rest = read("api.md").partition("For tests, from `kdzoo.testing`")
    listed = re.findall(r"^\| `(\w+)` \| (\S.*) \|$", rest.partition("```")[0], re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(kit.__all__)
    told = dict(listed)
    assert [field.name for field in dataclasses.fields(kit.Finding) if f"`{field.name}`" not in told["Finding"]] == [
        "blocked"
    ]
    hidden = {field.name for field in dataclasses.fields(kit.Check) if f"`{field.name}`" not in told["Check"]}
    assert hidden == {"run", "needs"}
    signature = inspect.signature(kit.run_checks)
    shown = re.search(r"`run_checks\((.*)\)` runs", told["run_checks"])
    assert shown is not None
    taken = [part.partition("=")[0] for part in shown[1].split(", ") if part != "*"]
    assert taken == list(signature.parameters)


@pytest.mark.exhaustive
def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    for name, text in files("api.md").items():
        (tmp_path / name).write_text(text)
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", tmp_path]
    assert "7 passed" in output_of(*asked, cwd=tmp_path)


def test_the_page_gives_the_version() -> None:
    assert f"`kdzoo.API_VERSION`, which is {public.API_VERSION}." in read("api.md")


def test_every_hook_is_typed_and_described() -> None:
    for name in hooks():
        hook = getattr(hookspecs, name)
        signature = inspect.signature(hook)
        assert signature.return_annotation is not inspect.Signature.empty, name
        told = inspect.getdoc(hook) or ""
        for argument in signature.parameters.values():
            assert argument.annotation is not inspect.Parameter.empty, name
            assert f"    {argument.name}: " in told, name


def test_the_pages_plugin_declares_and_trains(kdzoo: Callable[..., Any], records: Callable[..., Any]) -> None:
    named, tests = files("api.md").items()
    for name, text in (named, tests):
        Path(name).write_text(text)
    for words in commands("api.md"):
        assert kdzoo(*words).code == 0
    row = kdzoo("plugins", "--plugin", named[0]).out.splitlines()[-1].split()
    assert row == ["my_plugin", "file", row[2], "nearest", "-", "1.0", "ok"]
    result = kdzoo("bench", *SMALL, "--student", "test_resnet", "--plugin", named[0], "--strategies", "nearest")
    assert result.code == 0, result.err
    assert set(records()["nearest"]["curve"][0]["terms"]) == {"ce", "logits"}


def test_the_pages_hooks_watch_its_own_command(kdzoo: Callable[..., Any], records: Callable[..., Any]) -> None:
    (named,) = files("hooks.md").items()
    Path(named[0]).write_text(named[1])
    (words,) = [words for words in commands("hooks.md") if "--plugin" in words]
    result = kdzoo(*words, *SMALL)
    assert result.code == 0, result.err
    assert re.search(r"^soft seed 0: epoch 0, loss \d+\.\d{3}$", result.out, re.MULTILINE)
    assert records()["soft"]["cell"]["student"]["name"] == "resnet_narrow"


def test_the_page_of_combinations_says_what_a_bench_does(kdzoo: Callable[..., Any]) -> None:
    (text,) = re.findall(
        r'^```yaml title="combined.yaml"\n(.*?)^```$', read("combinations.md"), re.MULTILINE | re.DOTALL
    )
    Path("combined.yaml").write_text(text)
    small = ("--dataset", "digits[:120]", "--teacher", "resnet10t", "--student", "test_resnet", "--dry-run")
    shown = kdzoo("bench", "--config", "combined.yaml", *small)
    assert shown.code == 0, shown.err
    assert "soft+at resnet10t" in shown.out
    assert "soft+at (combination), from kdzoo" in kdzoo("strategies", "show", "soft+at").out
    benches = [words for words in commands("combinations.md") if words[0] == "bench"]
    assert len(benches) == 4
    planned = []
    for words in benches:
        shown = kdzoo(*words, *small)
        planned.append(shown.out)
        assert shown.code == 0, shown.err
        assert words[words.index("--strategies") + 1].split(",")[-1] + " resnet10t" in shown.out
    assert any("soft+at.ce_weight=0.1:2:log" in each for each in planned)
    distribution = kdzoo("bench", "--strategies", "kdzoo+kdzoo:soft+at", *small)
    assert "soft+at resnet10t" in distribution.out
