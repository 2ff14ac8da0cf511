"""A plan from what is known is the plan from loaded plugins, and doubtful things are never known."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from kdzoo import known
from kdzoo.bench.plan import BenchPlan, make_plan
from kdzoo.config import BenchConfig
from kdzoo.data import contents
from kdzoo.known import Known, NotKnownError
from kdzoo.registry import Registry

PAIR = {"teacher": "test_resnet", "student": "test_vit:patch_size=4", "device": "cpu", "epochs": 2}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own; files count as settled, and as older than this process."""
    monkeypatch.setattr(known, "_began", 2**62)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**12))


def plan(cached: bool, files: tuple[Path, ...] = (), **values: Any) -> BenchPlan:
    config = BenchConfig(**PAIR | {"dataset": "digits[:200]", "strategies": "soft"} | values)
    cache = Known.open(files)
    if cached:
        return make_plan(config, Registry.from_cache(cache))
    made = make_plan(config, Registry.load(files, cache))
    cache.save()
    return made


def shown(made: BenchPlan) -> list[Any]:
    """All that is printed of a plan."""
    pairs = [
        dataclasses.replace(
            pair,
            teacher_plan=dataclasses.replace(pair.teacher_plan, classifier=None, pre_activations=None),
            student_plan=dataclasses.replace(pair.student_plan, classifier=None, pre_activations=None),
        )
        for pair in made.pairs
    ]
    return [pairs, made.cells, made.studies, made.refused, made.datasets, made.inputs, made.warnings, made.seeds]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, number in (("train", 6), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / split / label
            folder.mkdir(parents=True)
            for place in range(number):
                Image.fromarray(draw.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{place}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "values",
    [
        {"strategies": "all"},
        {"strategies": "soft+at,kdzoo:rkd", "set": {"soft+at.soft.temperature": 2}},
        {"strategies": "soft,fitnets", "tune": 3, "tune_recipe": "lr", "search": {"soft.temperature": "2:8"}},
        {"student": "test_resnet,test_vit:patch_size=4", "dataset": "digits,digits[:100]", "seeds": 2},
    ],
)
def test_a_plan_from_the_cache_is_the_same(values: dict[str, Any]) -> None:
    made = plan(cached=False, **values)
    assert shown(plan(cached=True, **values)) == shown(made)


def test_known_pairs_make_other_benches() -> None:
    plan(cached=False, strategies="soft,at,fitnets", seeds=1)
    values = {"strategies": "fitnets,soft", "seeds": 4, "out": "elsewhere"}
    assert shown(plan(cached=True, **values)) == shown(plan(cached=False, **values))


def test_what_was_not_asked_before_is_not_known() -> None:
    plan(cached=False)
    for values in ({"student": "test_resnet"}, {"strategies": "at"}, {"epochs": 3}, {"dataset": "digits"}):
        with pytest.raises(NotKnownError):
            plan(cached=True, **values)


def test_a_refusal_is_known(tmp_path: Path) -> None:
    file = tmp_path / "choosy.py"
    file.write_text(
        "from kdzoo import PairError, Strategy\n\n\nclass Choosy(Strategy):\n    name = 'choosy'\n\n"
        "    def build(self, setup):\n        raise PairError('nothing is good enough')\n"
    )
    made = plan(cached=False, files=(file,), strategies="choosy,soft")
    assert [one.reason for one in made.refused] == ["nothing is good enough"]
    assert shown(plan(cached=True, files=(file,), strategies="choosy,soft")) == shown(made)


@pytest.mark.parametrize(
    "body",
    [
        "    def build(self, setup):\n        raise RuntimeError('a bug')\n",
        "    def build(self, setup):\n        import torch\n\n        torch.set_default_dtype(torch.float64)\n",
    ],
)
def test_a_strategy_with_a_bug_is_never_known(body: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(f"from kdzoo import Strategy\n\n\nclass Odd(Strategy):\n    name = 'odd'\n\n{body}")
    made = plan(cached=False, files=(file,), strategies="odd")
    assert made.broken or made.warnings
    with pytest.raises(NotKnownError):
        plan(cached=True, files=(file,), strategies="odd")


def test_a_check_of_a_strategys_own_is_asked_for_its_values(tmp_path: Path) -> None:
    file = tmp_path / "even.py"
    file.write_text(
        "from kdzoo import Strategy, UsageError, param\n\n\nclass Even(Strategy):\n    name = 'even'\n"
        "    number: int = param(2)\n\n    @classmethod\n    def resolve(cls, values):\n"
        "        found = super().resolve(values)\n        if found['number'] % 2:\n"
        "            raise UsageError('it must be even')\n        return found\n"
    )
    values = {"files": (file,), "strategies": "even", "set": {"even.number": 4}}
    made = plan(cached=False, **values)
    assert shown(plan(cached=True, **values)) == shown(made)
    with pytest.raises(NotKnownError):
        plan(cached=True, **values | {"set": {"even.number": 3}})


def test_a_plugins_dataset_is_never_known(tmp_path: Path) -> None:
    file = tmp_path / "noise.py"
    file.write_text(
        "import numpy as np\nfrom kdzoo import ArrayData, Dataset, Splits, hookimpl\n\n\nclass Noise(Dataset):\n"
        "    name = 'noise'\n    img_size = (16, 16)\n\n    def load(self, data_dir, download):\n"
        "        data = ArrayData(np.zeros((20, 1, 16, 16), np.uint8), np.arange(20) % 2)\n"
        "        return Splits(data, data, ('a', 'b'))\n\n\n@hookimpl\ndef kdzoo_datasets():\n    return [Noise()]\n"
    )
    values = {"files": (file,), "dataset": "noise"}
    plan(cached=False, **values)
    with pytest.raises(NotKnownError):
        plan(cached=True, **values)


@pytest.mark.parametrize("change", ["touched", "added", "removed", "linked"])
def test_changed_images_are_looked_at_anew(change: str, pets: Path) -> None:
    values = {"dataset": f"folder:{pets}", "img_size": 16}
    made = plan(cached=False, **values)
    assert shown(plan(cached=True, **values)) == shown(made)
    image = pets / "train/cat/0.png"
    if change == "touched":
        os.utime(image, (1, 1))
    elif change == "added":
        (pets / "test/dog/9.png").write_bytes(image.read_bytes())
    elif change == "removed":
        image.unlink()
    else:
        (pets / "test/more").symlink_to(pets / "train/dog")
    with pytest.raises(NotKnownError):
        plan(cached=True, **values)


def test_images_that_changed_just_now_are_not_known(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SETTLED_NS", 10**12)
    values = {"dataset": f"folder:{pets}", "img_size": 16}
    plan(cached=False, **values)
    with pytest.raises(NotKnownError):
        plan(cached=True, **values)


def test_a_file_of_weights_is_known_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    save_file(model.state_dict(), path)
    values = {"teacher_weights": str(path)}
    made = plan(cached=False, **values)
    again = plan(cached=True, **values)
    assert shown(again) == shown(made)
    assert again.inputs
    save_file({name: 2 * value for name, value in model.state_dict().items()}, path)
    with pytest.raises(NotKnownError):
        plan(cached=True, **values)
