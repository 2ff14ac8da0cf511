"""The reference of the contract: its code runs, its shapes are those of real networks, all its strategies train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from docs_pages import blocks, execute, read, run_kdzoo, shown_commands, tool, write_files

from kdzoo.declarations import SIGNALS
from kdzoo.outputs import Batch, Outputs
from kdzoo.store import Store
from kdzoo.strategy import Strategy, Terms
from kdzoo.testing import CHECKS, run_checks

PAGE = "docs/contract.md"
SMALL = (
    "--dataset 'digits[:200]' --img-size 16 --teacher test_resnet --student test_resnet --seeds 1 --epochs 2 "
    "--teacher-epochs 8 --device cpu --set recipe.batch_size=16 --set recipe.lr=0.02"
)

TWO_HEADS = "--student deit_tiny_distilled_patch16_224:depth=1:embed_dim=32:num_heads=2:patch_size=4"


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
    cells = re.findall(r"^\| (`.+?) \|", head, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)", cell)]
    theirs = {name for name in vars(Strategy) if not name.startswith("_") and name != "hyperparameters"}
    arguments = {"setup", "epochs", "teacher", "student", "batch", "terms", "backward", "values"}
    assert set(listed) - arguments == theirs
    assert len(set(listed)) == len(listed)


CLAIMS = [name for name, value in vars(Strategy).items() if value is False and name != "per_sample"]


def test_every_claim_has_its_line() -> None:
    section = re.split(r"^## ", read(PAGE), flags=re.MULTILINE)
    (claims,) = [part for part in section if part.startswith("Claims\n")]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\w+) [^|]+ \|$", claims, re.MULTILINE)
    assert [name for name, _ in rows] == CLAIMS
    assert [does for _, does in rows] == ["fails"] * 3 + ["skips"] * 3
    assert len(CLAIMS) == 6


class Lying(Strategy):
    """Keeps no promise: the terms are negative at times, not 0 for equal networks, and not symmetric."""

    name = "lying"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"product": (student.logits.float() * teacher.logits.float().softmax(dim=1)).sum(dim=1).mean()}


class Reverse(Strategy):
    """The divergence with the arguments changed."""

    name = "reverse"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (outputs.logits.float().log_softmax(dim=1) for outputs in (student, teacher))
        return {"kl": F.kl_div(p, q, reduction="batchmean", log_target=True)}


class Ordered(Strategy):
    """Compares each row with the teacher's next one."""

    name = "ordered"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (outputs.logits.float().log_softmax(dim=1) for outputs in (student, teacher))
        return {"kl": F.kl_div(q, p.roll(1, 0), reduction="batchmean", log_target=True)}


class Sampled(Strategy):
    """Compares some of the rows, others at each call."""

    name = "sampled"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        kept = torch.rand(len(batch.labels), 1) < 0.5
        return {"mse": (kept * (student.logits - teacher.logits).float().square()).mean()}


@pytest.mark.parametrize(
    ("kind", "claim", "check", "without", "claimed"),
    [
        (Lying, "zero_when_equal", "zero-when-equal", "skip", "fail"),
        (Lying, "non_negative", "non-negative", "skip", "fail"),
        (Lying, "symmetric", "argument-order", None, "fail"),
        (Reverse, "mode_seeking", "argument-order", "fail", None),
        (Ordered, "order_dependent", "batch-order", "fail", None),
        (Sampled, "stochastic", "stochastic", "fail", None),
    ],
)
def test_a_promise_is_checked_and_a_release_leaves_a_check_out(
    kind: type[Strategy], claim: str, check: str, without: str | None, claimed: str | None
) -> None:
    """None stands for anything but a failure, and so for a promise that is not given it stands for either."""
    for claims, expected in (({}, without), ({claim: True}, claimed)):
        *_, found = run_checks(type("Claiming", (kind,), {"__module__": __name__, **claims}), only=[check])
        assert found.check.name == check
        if expected is not None:
            assert (found.status, found.blocked) == (expected, False), found.text
        elif claims:
            assert found.status != "fail", found.text


def test_every_part_has_a_strategy_of_its_own(page: dict[str, object]) -> None:
    names = [kind.name for kind in strategies(page)]
    assert len(names) == len(set(names)) == 16
    assert {method for kind in strategies(page) for method in vars(kind)} >= {
        "build", "phases", "reduce", "reduction", "forward", "predict", "gradients", "optimizer", "resolve", "views",
        "deployed", "teacher_signals", "ce_weight", "zero_when_equal", "non_negative", "symmetric", "survey",
        "variants", "augment", "hard_label_logits",
    }  # fmt: skip


@pytest.mark.exhaustive
def test_all_strategies_of_the_page_train(
    page: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text("\n\n".join(block.text for block in blocks(PAGE, "python")), encoding="utf-8")
    kinds = strategies(page)
    two_heads = [kind for kind in kinds if kind.name == "one_head_each"]
    for some, student in (([kind for kind in kinds if kind not in two_heads], ""), (two_heads, TWO_HEADS)):
        names = ",".join(kind.name for kind in some)
        run_kdzoo(f"kdzoo bench --plugin page.py --strategies {names} {SMALL} {student}")
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
