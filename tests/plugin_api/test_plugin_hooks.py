"""Hooks beyond strategies and datasets: models, trackers, run events; what they raise stays with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import output_of

DIARY = """
    import json
    import os
    from pathlib import Path

    from kdzoo import Strategy, hookimpl

    kdzoo_api = "1.0"
    diary = Path("diary.jsonl")

    def note(*words):
        with diary.open("a") as file:
            file.write(json.dumps([*words, os.getpid()]) + "\\n")

    @hookimpl
    def kdzoo_cell_started(cell):
        note("started", cell.kind, cell.strategy.name)
        cell.strategy.params["temperature"] = 99.0

    @hookimpl
    def kdzoo_epoch_ended(cell, epoch):
        note("epoch", cell.kind, cell.strategy.name, epoch.epoch, sorted(epoch.terms))
        epoch.terms.clear()

    @hookimpl
    def kdzoo_record_written(record):
        note("written", record.cell.kind, record.cell.strategy.name, record.status)

    class Broken(Strategy):
        name = "broken"

        def forward(self, student, teacher, batch):
            raise ValueError("not today")
"""

NARROW = """
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
    from timm.models.resnet import BasicBlock, ResNet

    from kdzoo import hookimpl

    default_cfgs = generate_default_cfgs({{"{name}": {{"first_conv": "conv1", "classifier": "fc"}}}})


    @register_model
    def {name}(pretrained=False, **kwargs):
        shape = {{"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)}}
        return build_model_with_cfg(ResNet, "{name}", pretrained, **shape, **kwargs)


    @hookimpl
    def kdzoo_models():
        return ["{name}"]
"""


def diary() -> list[list[Any]]:
    return [json.loads(line)[:-1] for line in Path("diary.jsonl").read_text().splitlines()]


def test_a_plugin_is_told_of_all_that_runs_and_changes_nothing(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    watching = ("--plugin", plugin_file(DIARY, "watching.py"))
    small = (*small, "--bank", "off")
    result = kdzoo("bench", *small, *watching, "--strategies", "soft,broken")
    assert result.code == 1
    assert diary() == [
        ["started", "teacher", "ce"],
        *(["epoch", "teacher", "ce", epoch, ["ce"]] for epoch in range(3)),
        ["written", "teacher", "ce", "done"],
        ["started", "student", "ce"],
        *(["epoch", "student", "ce", epoch, ["ce"]] for epoch in range(2)),
        ["written", "student", "ce", "done"],
        ["started", "student", "soft"],
        *(["epoch", "student", "soft", epoch, ["ce", "soft"]] for epoch in range(2)),
        ["written", "student", "soft", "done"],
        ["started", "student", "broken"],
        ["written", "student", "broken", "failed"],
    ]
    soft = records()["soft"]
    assert soft["cell"]["strategy"]["params"] == {"alpha": 0.9, "temperature": 4.0}
    assert set(soft["curve"][0]["terms"]) == {"ce", "soft"}
    Path("diary.jsonl").unlink()
    kdzoo("bench", *small, *watching, "--strategies", "soft")
    assert not Path("diary.jsonl").exists()  # all were found done
    plain = kdzoo("bench", *small, "--strategies", "soft", "--out", "plain")
    assert plain.code == 0, plain.err
    again = records(Path("plain"))["soft"]
    for part in ("id", "test", "tune", "curve"):
        assert again[part] == soft[part]


def test_trials_of_tuning_are_told_too(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...]
) -> None:
    watching = ("--plugin", plugin_file(DIARY, "watching.py"))
    result = kdzoo("tune", *small, *watching, "--strategies", "soft", "--trials", 2, "--tune-epochs", 1)
    assert result.code == 0, result.err
    assert diary().count(["written", "trial", "soft", "done"]) == 2


RAISING = """
    from kdzoo import hookimpl

    @hookimpl
    def kdzoo_cell_started(cell):
        raise SystemExit("out of here")

    @hookimpl
    def kdzoo_epoch_ended(cell, epoch):
        {}[epoch.epoch]

    @hookimpl
    def kdzoo_record_written(record):
        with open("written.txt", "a") as file:
            file.write(record.status)
        raise RuntimeError("two\\nlines")
"""


def test_a_raising_hook_is_named_once_and_harms_no_cell(
    kdzoo: Callable[..., Any],
    plugin_file: Callable[..., Path],
    install: Callable[..., Path],
    small: tuple[Any, ...],
    records: Callable[..., Any],
) -> None:
    install("diarypack", DIARY.partition("    class Broken")[0])
    result = kdzoo("bench", *small, "--plugin", plugin_file(RAISING, "raising.py"), "--strategies", "soft")
    assert result.code == 0, result.err
    assert {each["status"] for each in records().values()} == {"done"}
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    title = "warning: plugin raising (file "
    assert all(line.startswith(title) for line in warnings)
    assert [line.partition("): ")[2] for line in warnings] == [
        "kdzoo_cell_started failed, which changes no result: SystemExit: out of here (raising.py:6)",
        "kdzoo_epoch_ended failed, which changes no result: KeyError: 0 (raising.py:10)",
        "kdzoo_record_written failed, which changes no result: RuntimeError: two (raising.py:16)",
    ]
    assert Path("written.txt").read_text() == "done" * 3  # it is called again each time
    assert diary().count(["written", "student", "soft", "done"]) == 1  # and the others are told all the same


@pytest.mark.exhaustive
def test_hooks_of_a_worker_are_called_where_the_cell_runs(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path], small: tuple[Any, ...]
) -> None:
    import os

    watching = ("--plugin", plugin_file(DIARY, "watching.py"))
    result = kdzoo("bench", *small, *watching, "--strategies", "soft", "--workers", 2, "--epochs", 1)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in Path("diary.jsonl").read_text().splitlines()]
    assert sum(line[0] == "written" for line in lines) == 3
    assert os.getpid() not in {line[-1] for line in lines}


def test_a_plugins_model_is_trained_listed_and_recorded(
    kdzoo: Callable[..., Any], install: Callable[..., Path], small: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    install("narrowpack", NARROW.format(name="resnet_pack_narrow"), version="2.5")
    header, _, *rows = kdzoo("plugins").out.splitlines()
    assert header.split() == ["plugin", "distribution", "version", "strategies", "datasets", "models", "api", "state"]
    row = next(line.split() for line in rows if line.startswith("narrowpack"))
    assert row == ["narrowpack", "narrowpack", "2.5", "-", "-", "resnet_pack_narrow", "undeclared", "ok"]
    result = kdzoo("bench", *small, "--strategies", "ce", "--student", "resnet_pack_narrow", "--epochs", 1)
    assert result.code == 0, result.err
    record = records()["ce"]
    assert record["cell"]["student"] == {"name": "resnet_pack_narrow", "args": {}}
    assert record["environment"]["versions"]["narrowpack"] == "2.5"


def test_a_model_of_a_file_is_there_before_models_are_looked_up(
    kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]
) -> None:
    path = plugin_file(NARROW.format(name="resnet_file_narrow"))
    asked = ("pair", "--teacher", "resnet_file_narrow", "--student", "test_resnet")
    unknown = kdzoo(*asked)
    assert (unknown.code, "unknown model 'resnet_file_narrow'" in unknown.err) == (2, True)
    assert "resnet_file_narrow -> test_resnet on digits" in kdzoo(*asked, "--plugin", path).out


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "def kdzoo_models():\n    return ['nobody_registered_this']",
            "ValueError: kdzoo_models names 'nobody_registered_this', which is not registered with timm",
        ),
        ("def kdzoo_models():\n    return [3]", "TypeError: kdzoo_models must give names of models, not 3"),
        (
            "def kdzoo_models():\n    return ['resnet18']",
            "ValueError: kdzoo_models registers 'resnet18', which is a model of timm already: give it another name",
        ),
        ("def kdzoo_models():\n    1 / 0", "ZeroDivisionError: division by zero (plugin_api_module_"),
        ("def kdzoo_trackers():\n    return [int]", "TypeError: kdzoo_trackers must give subclasses of accelerate's"),
        (
            "def kdzoo_trackers():\n    from accelerate.tracking import TensorBoardTracker\n"
            "    return [TensorBoardTracker]",
            "ValueError: kdzoo_trackers gives 'tensorboard', which is the name of another tracker",
        ),
        (
            "def kdzoo_epoch_ended(cell, epochs):\n    pass",
            "LookupError: kdzoo_epoch_ended has no argument 'epochs'; it has cell, epoch",
        ),
        ("def kdzoo_epoch_begun(cell):\n    pass", "LookupError: unknown hook 'kdzoo_epoch_begun'"),
    ],
)
def test_a_hook_that_gives_what_it_may_not_is_told_when_it_is_loaded(
    code: str, error: str, install: Callable[..., Path]
) -> None:
    from kdzoo.plugins import load_plugins

    install("oddpack", f"from kdzoo import hookimpl\n\n@hookimpl\n{code}\n")
    plugin = next(one for one in load_plugins() if one.distribution == "oddpack")
    assert error in plugin.error
    assert plugin.is_empty


def test_a_model_of_timm_that_a_plugin_replaced_is_put_back(install: Callable[..., Path]) -> None:
    import timm

    from kdzoo.plugins import load_plugins

    own = timm.models.model_entrypoint("resnet10t")
    install("thiefpack", NARROW.format(name="resnet10t"))
    with pytest.warns(UserWarning, match="Overwriting resnet10t"):
        plugin = next(one for one in load_plugins() if one.distribution == "thiefpack")
    assert "kdzoo_models registers 'resnet10t', which is a model of timm already" in plugin.error
    assert timm.models.model_entrypoint("resnet10t") is own


def test_a_model_of_another_plugin_stays_its_own(install: Callable[..., Path]) -> None:
    import timm

    from kdzoo.plugins import load_plugins

    install("afirst", NARROW.format(name="resnet_shared_name"))
    first = next(one for one in load_plugins() if one.distribution == "afirst")
    own = timm.models.model_entrypoint("resnet_shared_name")
    install("bsecond", NARROW.format(name="resnet_shared_name"))
    with pytest.warns(UserWarning, match="Overwriting resnet_shared_name"):
        plugins = {one.distribution: one for one in load_plugins()}
    assert (first.models, plugins["afirst"].models) == (["resnet_shared_name"], ["resnet_shared_name"])
    assert "which is a model of afirst already" in plugins["bsecond"].error
    assert timm.models.model_entrypoint("resnet_shared_name") is own


THIEF = """
    import timm
    from timm.models import register_model

    from kdzoo import Strategy, hookimpl

    def take():
        @register_model
        def resnet18(pretrained=False, **kwargs):
            return timm.create_model("resnet10t", **kwargs)

    class Mine(Strategy):
        name = "thief"

        def forward(self, student, teacher, batch):
            return {{"x": (student.logits - teacher.logits).square().mean()}}

    {}
"""


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("take()", "ValueError: it registers 'resnet18', which is a model of timm already: give it another name"),
        ("take(); 1 / 0", "ZeroDivisionError: division by zero"),
        (
            "kdzoo_models = hookimpl(lambda: (take(), [3])[1], specname='kdzoo_models')",
            "TypeError: kdzoo_models must give names of models, not 3",
        ),
        (
            "kdzoo_datasets = hookimpl(lambda: take() or [], specname='kdzoo_datasets')",
            "ValueError: it registers 'resnet18', which is a model of timm already",
        ),
    ],
    ids=["without a hook", "before it fails", "in a hook that gives nonsense", "in another hook"],
)
@pytest.mark.filterwarnings("ignore:Overwriting resnet18")
def test_no_plugin_replaces_a_network_however_it_tries(
    code: str, error: str, install: Callable[..., Path], kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]
) -> None:
    import timm

    from kdzoo.plugins import load_plugins

    own = timm.models.model_entrypoint("resnet18")
    pretrained = timm.get_pretrained_cfg("resnet18")
    result = kdzoo("strategies", "--plugin", plugin_file(THIEF.format(code), "thief.py"))
    assert result.code == 2
    assert f"failed: {error}" in result.err
    install("thiefpack", THIEF.format(code))
    plugin = next(one for one in load_plugins() if one.distribution == "thiefpack")
    assert error in plugin.error
    assert plugin.is_empty
    assert timm.models.model_entrypoint("resnet18") is own
    assert timm.get_pretrained_cfg("resnet18") == pretrained


@pytest.mark.exhaustive
def test_a_plugin_that_brings_timm_along_replaces_nothing(tmp_path: Path) -> None:
    """In a process of its own, in which nobody has imported timm before."""
    import sys
    import textwrap

    (tmp_path / "thief.py").write_text(textwrap.dedent(THIEF).format("take()"))
    code = (
        "import sys\nfrom pathlib import Path\nfrom kdzoo import UsageError\nfrom kdzoo.plugins import load_plugins\n"
        "load_plugins()\nprint('timm' in sys.modules)\n"
        "try:\n    load_plugins([Path('thief.py')])\nexcept UsageError as error:\n    print(error)\n"
        "import timm\nprint(timm.models.model_entrypoint('resnet18').__module__)"
    )
    told = output_of(sys.executable, "-W", "ignore", "-c", code, cwd=tmp_path)
    before, refusal, *_, after = told.splitlines()
    assert before == "False"
    assert "it registers 'resnet18', which is a model of timm already" in refusal
    assert after == "timm.models.resnet"


@pytest.mark.filterwarnings("ignore:Overwriting resnet_own_twice")
def test_a_plugin_may_be_loaded_twice(plugin_file: Callable[..., Path]) -> None:
    """Also after an edit, and if it registers without the hook; another one may not take the name."""
    from kdzoo import UsageError
    from kdzoo.plugins import load_plugins

    strategy = THIEF.format("").partition("class Mine")
    code = NARROW.format(name="resnet_own_twice") + "\n    from kdzoo import Strategy\n\n    " + "".join(strategy[1:])
    for text in (code, f"{code}\n    # edited", code.replace("@hookimpl", "")):
        (kind,) = load_plugins([plugin_file(text, "own.py")])[-1].strategies
        assert kind.name == "thief"
    with pytest.raises(UsageError, match="'resnet_own_twice', which is a model of file already"):
        load_plugins([plugin_file(text, "other.py")])
