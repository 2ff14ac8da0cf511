"""The reference of the contract: its code runs, its shapes are those of real networks, all its strategies train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import blocks, execute, read, run_kdzoo, shown_commands, tool, write_files

from kdzoo.store import Store
from kdzoo.strategy import SIGNALS, Strategy
from kdzoo.testing.catalogue import CHECKS

PAGE = "docs/contract.md"
SMALL = (
    "--dataset 'digits[:200]' --img-size 16 --teacher test_resnet --student test_resnet --seeds 1 --epochs 2 "
    "--teacher-epochs 8 --device cpu --set recipe.batch_size=16 --set recipe.lr=0.02"
)


@pytest.fixture(scope="module")
def page() -> dict[str, object]:
    """What the page's code defines."""
    return execute(PAGE)


def strategies(page: dict[str, object]) -> list[type[Strategy]]:
    """The strategies of the page, in its order."""
    return [each for each in page.values() if isinstance(each, type) and issubclass(each, Strategy) and each.name]


def test_code_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = blocks(PAGE, "text")
    execute(PAGE)
    assert capsys.readouterr().out == shown.text


def test_networks_of_the_examples_are_those_of_the_table(page: dict[str, object]) -> None:
    made = tool("signals_table")
    assert page["cnn"] == made.network("test_resnet").signature()
    assert page["vit"] == made.network("test_vit:patch_size=4").signature()
    assert f"[{', '.join(map(str, page['pairs']))}]" in made.signal_shapes()  # type: ignore[call-overload]


def test_table_has_every_signal_of_a_cnn_and_a_transformer() -> None:
    table = re.search(r"<!-- generated: signal shapes -->\n(.*?)<!-- end", read(PAGE), re.DOTALL)
    assert table is not None
    named = re.findall(r"^\| `(\w+)[\[.\d\w\]]*`", table[1].split("\n\n")[0], re.MULTILINE)
    assert list(dict.fromkeys(named)) == list(SIGNALS)
    (deepest,) = re.findall(r"^\| `stages\[3\]` +\| (.+?) +\|", table[1], re.MULTILINE)
    assert deepest == "B x 256 x 2 x 2"


def test_tables_have_every_attribute_and_method() -> None:
    head = read(PAGE).split("## What happens when")[0]
    listed = set(re.findall(r"^\| `(\w+)", head, re.MULTILINE))
    claims = {"non_negative", "symmetric", "mode_seeking", "order_dependent"}
    theirs = {name for name in vars(Strategy) if not name.startswith("_") and name != "hyperparameters"}
    assert listed == theirs - claims


def test_every_part_has_a_strategy_of_its_own(page: dict[str, object]) -> None:
    names = [kind.name for kind in strategies(page)]
    assert len(names) == len(set(names)) == 10
    assert {method for kind in strategies(page) for method in vars(kind)} >= {
        "build", "phases", "reduce", "reduction", "forward", "predict", "gradients", "resolve", "views", "deployed",
        "teacher_signals", "ce_weight", "zero_when_equal", "non_negative", "symmetric",
    }  # fmt: skip


def test_all_strategies_of_the_page_train(
    page: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text("\n\n".join(block.text for block in blocks(PAGE, "python")), encoding="utf-8")
    kinds = strategies(page)
    run_kdzoo(f"kdzoo bench --plugin page.py --strategies {','.join(kind.name for kind in kinds)} {SMALL}")
    records = {record.cell.strategy.name: record for record in Store.open(tmp_path / "runs").records()}
    for kind in kinds:
        record = records[kind.name]
        assert (kind.name, record.status, record.reason) == (kind.name, "done", "")
        assert len(record.curve) == 2
    assert [line.phase for line in records["head_start"].curve] == ["imitate", "main"]
    assert [set(line.terms) for line in records["head_start"].curve] == [{"embedding"}, {"ce"}]
    assert records["where_right"].curve[0].terms["right"] > 0
    assert (tmp_path / "runs" / "cells" / records["second_head"].id / "deployed.safetensors").exists()


def test_claims_of_the_page_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(PAGE, tmp_path)
    (command,) = [line for line in shown_commands(PAGE) if "check-strategy" in line]
    asked = command.partition("--only ")[2].split(",")
    assert set(asked) <= {check.name for check in CHECKS}
    told = run_kdzoo(command)
    for name in asked:
        assert re.search(rf"^ok +{name} ", told, re.MULTILINE), told
