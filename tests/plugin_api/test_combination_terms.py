"""A combination computes what its parts compute alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdzoo import (
    Batch,
    Outputs,
    PairError,
    Phase,
    Setup,
    Signature,
    StageShape,
    Strategy,
    Terms,
    UsageError,
    param,
)
from kdzoo.plugins import Plugin, load_plugins
from kdzoo.registry import Registry

CNN = Signature(stages=(StageShape(4, 8, 8), StageShape(6, 4, 4)), embedding=6, num_classes=3)
VIT = Signature(stages=(StageShape(5, 4, 4),) * 2, embedding=5, num_classes=3)
SETUP = Setup(student=CNN, teacher=VIT, stage_pairs=((0, 0), (1, 1)), num_classes=3, num_samples=20)


class Nosy(Strategy):
    """Reads what it did not ask for."""

    name = "nosy"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"peek": student.embedding.mean()}


class Hardest(Strategy):
    """Trains on the larger of its loss and the hard-label loss."""

    name = "hardest"
    weight: float = param(1.0, "of the term", ge=0.0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"gap": self.weight * (student.logits - teacher.logits).square().mean()}

    def gradients(self, terms: Terms, backward: Any) -> None:
        backward(torch.stack(list(terms.values())).max())


class Headed(Strategy):
    """Predicts through a head of its own."""

    name = "headed"
    signals = ("embedding",)
    deployed = ("head",)

    def build(self, setup: Setup) -> None:
        self.head = nn.Linear(setup.student.embedding, setup.num_classes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"size": self.head(student.embedding).square().mean()}

    def predict(self, student: Outputs) -> Tensor:
        return self.head(student.embedding)


class Pooled(Strategy):
    """Wants the mean of the teacher's maps only."""

    name = "pooled"
    signals = ("stages",)

    def reduce(self, teacher: Outputs) -> Outputs:
        return Outputs({"means": tuple(stage.mean(dim=(1, 2, 3)) for stage in teacher.stages)})

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        return {"means": ("stages.0 mean", "stages.1 mean")}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        mine = [student.stages[s].mean(dim=(1, 2, 3)) for s, _ in self.setup.stage_pairs]
        theirs = teacher.values["means"]
        return {"mean": torch.stack([(a - b).square().mean() for a, b in zip(mine, theirs, strict=True)]).sum()}


class TwoViews(Strategy):
    name = "twoviews"
    views = 2


class Flagged(Strategy):
    """A parameter decides how many views it wants."""

    name = "flagged"
    twice: bool = param(False, "two views")

    def build(self, setup: Setup) -> None:
        self.views = 2 if self.twice else 1


class Staged(Strategy):
    """Has a phase for its adapter before the main one."""

    name = "staged"
    warm: int = param(2, "epochs of the adapter", ge=0)
    last: str = param("both", "what the last phase trains", choices=("both", "student"))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        first = (Phase("warm", self.warm, hard_labels=False, trains="strategy"),) if self.warm else ()
        return (*first, Phase("late", epochs - self.warm, trains=self.last, teacher=False))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {batch.phase: student.logits.mean()}


class Searched(Strategy):
    name = "searched"
    a: float = param(1.0, "a", search=(0.0, 2.0))
    b: float = param(1.0, "b", search=(0.0, 2.0))
    c: float = param(1.0, "c", search=(0.0, 2.0))


class Choosy(Strategy):
    """Refuses values that do not fit together, and pairs of unequal width."""

    name = "choosy"
    low: float = param(1.0, "low")
    high: float = param(2.0, "high")

    @classmethod
    def resolve(cls, values: Any) -> Any:
        found = super().resolve(values)
        if found["low"] > found["high"]:
            raise UsageError("choosy.low must not be above choosy.high")
        return found

    def build(self, setup: Setup) -> None:
        if setup.student.embedding != setup.teacher.embedding:
            raise PairError("choosy wants embeddings of one width")


OWN = [Nosy, Hardest, Headed, Pooled, TwoViews, Flagged, Staged, Searched, Choosy]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([*load_plugins(), Plugin("tests", "my-pack", "2.5", strategies=list(OWN))])


@pytest.fixture
def build(registry: Registry) -> Callable[..., Strategy]:
    def make(name: str, setup: Setup = SETUP, **values: Any) -> Strategy:
        torch.manual_seed(0)
        return registry.strategy(name).value(setup, **values)

    return make


def outputs(network: Signature, seed: int, samples: int = 4) -> Outputs:
    draw = torch.Generator().manual_seed(seed)
    return Outputs(
        {
            "logits": torch.randn(samples, network.num_classes, generator=draw),
            "stages": tuple(torch.randn(samples, *shape, generator=draw) for shape in network.stages),
            "embedding": torch.randn(samples, network.embedding, generator=draw),
        }
    )


def batch(phase: str = "main") -> Batch:
    labels = torch.tensor([0, 1, 2, 0])
    return Batch(torch.zeros(4, 1, 8, 8), labels, labels, torch.arange(4), phase=phase)


def terms_of(strategy: Strategy, student: Outputs, teacher: Outputs, seen: Batch) -> Terms:
    """The terms, with the teacher's signals reduced first, as the engine does."""
    return strategy(student, strategy.reduce(teacher) if teacher.values else teacher, seen)


def same(found: Terms, expected: Terms) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("names", ["soft+at", "rkd+soft", "fitnets+rkd+at"])
def test_terms_are_those_of_the_parts_under_their_names(
    names: str, registry: Registry, build: Callable[..., Strategy]
) -> None:
    student, teacher = outputs(CNN, 1), outputs(VIT, 2)
    together = terms_of(build(names), student, teacher, batch())
    torch.manual_seed(0)  # the parts draw their adapters one after the other
    alone: Terms = {}
    for name in names.split("+"):
        part = registry.strategy(name).value(SETUP)
        alone |= {f"{name}.{term}": value for term, value in terms_of(part, student, teacher, batch()).items()}
    same(together, alone)


def test_parameters_have_the_names_of_their_parts(registry: Registry, build: Callable[..., Strategy]) -> None:
    kind = registry.strategy("soft+at").value
    parts = [(name, key) for name in ("soft", "at") for key in registry.strategy(name).value.hyperparameters()]
    assert {("soft", "temperature"), ("soft", "alpha"), ("at", "beta"), ("at", "power")} <= set(parts)
    assert list(kind.hyperparameters()) == [*(f"{name}.{key}" for name, key in parts), "ce_weight"]
    plain, changed = build("soft+at"), build("soft+at", **{"soft.temperature": 2.0, "at.beta": 10, "ce_weight": 0.25})
    assert (plain.ce_weight, changed.ce_weight) == (1.0, 0.25)
    student, teacher = outputs(CNN, 1), outputs(VIT, 2)
    expected = terms_of(build("soft", temperature=2.0), student, teacher, batch())["soft"]
    before, after = (terms_of(one, student, teacher, batch()) for one in (plain, changed))
    torch.testing.assert_close(after["soft.soft"], expected)
    assert float(before["at.attention"] / after["at.attention"]) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"soft.temprature": 1.0}, r"unknown parameter of soft\+at 'soft.temprature'; did you mean soft.temperature"),
        ({"temperature": 1.0}, r"unknown parameter of soft\+at 'temperature'; did you mean soft.temperature"),
        ({"soft.temperature": -1.0}, r"soft\+at.soft.temperature must be a number above 0, not -1.0"),
        ({"ce_weight": -1.0}, r"soft\+at.ce_weight must be a number at least 0, not -1.0"),
    ],
)
def test_wrong_parameters_are_told(values: dict[str, float], message: str, registry: Registry) -> None:
    with pytest.raises(UsageError, match=message):
        registry.strategy("soft+at").value.resolve(values)


def test_a_parts_own_refusals_count(registry: Registry, build: Callable[..., Strategy]) -> None:
    with pytest.raises(UsageError, match=r"choosy\.low must not be above choosy\.high"):
        registry.strategy("soft+choosy").value.resolve({"choosy.low": 3.0})
    with pytest.raises(PairError, match="choosy wants embeddings of one width"):
        build("soft+choosy")


def test_each_part_sees_its_own_signals_only(registry: Registry, build: Callable[..., Strategy]) -> None:
    kind = registry.strategy("rkd+nosy").value
    assert kind.signals == ("logits", "embedding")
    assert kind.teacher_signals == ("logits", "embedding")
    with pytest.raises(UsageError, match="the signal 'embedding' was not asked for"):
        terms_of(build("rkd+nosy"), outputs(CNN, 1), outputs(VIT, 2), batch())


def test_adapters_of_all_parts_are_trained_and_kept(build: Callable[..., Strategy]) -> None:
    both = build("fitnets+headed")
    assert sum(each.numel() for each in both.parameters()) == sum(
        each.numel() for name in ("fitnets", "headed") for each in build(name).parameters()
    )
    terms = terms_of(both, outputs(CNN, 1), outputs(VIT, 2), batch())
    torch.stack(list(terms.values())).sum().backward()
    assert all(each.grad is not None for each in both.parameters())
    other = build("fitnets+headed")
    for each in other.parameters():
        nn.init.zeros_(each)
    other.load_state_dict(both.state_dict())
    for mine, theirs in zip(both.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_one_part_that_predicts_predicts(registry: Registry, build: Callable[..., Strategy]) -> None:
    kind, plain = registry.strategy("soft+headed").value, registry.strategy("soft+at").value
    assert kind.deployed == ("headed_head",)
    assert plain.predict is Strategy.predict
    both, student = build("soft+headed"), outputs(CNN, 1)
    head = both.get_submodule("headed_head")
    torch.testing.assert_close(both.predict(student), head(student.embedding))
    from kdzoo.engine.distiller import with_modules

    other = nn.Linear(CNN.embedding, 3)
    replaced = with_modules(both, nn.ModuleDict({"headed_head": other}))
    torch.testing.assert_close(replaced.predict(student), other(student.embedding))
    torch.testing.assert_close(both.predict(student), head(student.embedding))


def test_one_parts_phases_go_first_and_the_others_join_the_last(build: Callable[..., Strategy]) -> None:
    both = build("soft+staged", **{"staged.warm": 3})
    assert both.phases(10) == (
        Phase("warm", 3, hard_labels=False, trains="strategy"),
        Phase("late", 7, hard_labels=True, trains="both", teacher=True),
    )
    student, teacher = outputs(CNN, 1), outputs(VIT, 2)
    assert list(terms_of(both, student, Outputs({}), batch("warm"))) == ["staged.warm"]
    late = terms_of(both, student, teacher, batch("late"))
    assert list(late) == ["soft.soft", "staged.late"]


def test_a_part_that_has_one_phase_only_is_shown_its_own_name(build: Callable[..., Strategy]) -> None:
    both = build("soft+staged", **{"staged.warm": 0})
    (only,) = both.phases(5)
    assert (only.name, only.epochs, only.teacher) == ("main", 5, True)
    assert list(terms_of(both, outputs(CNN, 1), outputs(VIT, 2), batch("main"))) == ["soft.soft", "staged.late"]


def test_the_hint_phase_of_fitnets_leads_to_soft_targets(build: Callable[..., Strategy]) -> None:
    both = build("fitnets+soft", **{"fitnets.hint_epochs": 2})
    hint, main = both.phases(6)
    assert (hint.name, hint.epochs, hint.hard_labels) == ("hint", 2, False)
    assert (main.name, main.epochs, main.hard_labels, main.teacher) == ("main", 4, True, True)
    student, teacher = outputs(CNN, 1), outputs(VIT, 2)
    assert list(terms_of(both, student, teacher, batch("hint"))) == ["fitnets.hint"]
    assert list(terms_of(both, student, teacher, batch("main"))) == ["soft.soft"]


def test_phases_that_cannot_be_joined_are_refused(build: Callable[..., Strategy]) -> None:
    with pytest.raises(UsageError, match=r"fitnets\+staged: fitnets and staged both have phases of their own"):
        build("fitnets+staged", **{"fitnets.hint_epochs": 2}).phases(6)
    with pytest.raises(UsageError, match=r"train different things \(soft both, staged student\)"):
        build("soft+staged", **{"staged.last": "student"}).phases(6)
    assert len(build("fitnets+staged").phases(6)) == 2


class Recorder:
    """Adds gradients as the engine does, and counts the passes."""

    def __init__(self, *parameters: nn.Parameter) -> None:
        self.parameters = parameters
        self.retained: list[bool] = []

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        self.retained.append(retain_graph)
        loss.backward(retain_graph=retain_graph)


@pytest.mark.parametrize("weight", [0.0, 100.0])
def test_one_parts_gradients_are_combined_its_way_and_the_others_are_added(
    weight: float, build: Callable[..., Strategy]
) -> None:
    both = build("soft+hardest", **{"hardest.weight": weight})
    leaf = nn.Parameter(outputs(CNN, 1).logits)
    teacher = outputs(VIT, 2)

    def all_terms() -> Terms:
        student = Outputs({"logits": leaf * 1.0})
        return {"ce": student.logits.square().mean(), **terms_of(both, student, teacher, batch())}

    backward = Recorder(leaf)
    both.gradients(all_terms(), backward)
    found, leaf.grad = leaf.grad, None
    terms = all_terms()
    (torch.maximum(terms["ce"], terms["hardest.gap"]) + terms["soft.soft"]).backward()
    assert found is not None
    assert leaf.grad is not None
    torch.testing.assert_close(found, leaf.grad)
    assert backward.retained == [True, False]


def test_by_default_the_gradients_are_those_of_the_sum(registry: Registry, build: Callable[..., Strategy]) -> None:
    assert registry.strategy("soft+at").value.gradients is Strategy.gradients
    backward = Recorder()
    staged = build("staged+hardest", **{"staged.warm": 2})
    staged.phases(5)
    terms = staged(Outputs({"logits": nn.Parameter(torch.ones(4, 3))}), Outputs({}), batch("warm"))
    staged.gradients(terms, backward)
    assert backward.retained == [False]


def test_each_part_gets_what_it_reduced_the_teacher_to(registry: Registry, build: Callable[..., Strategy]) -> None:
    assert registry.strategy("rkd+nosy").value.reduce is Strategy.reduce
    both, student, teacher = build("soft+pooled"), outputs(CNN, 1), outputs(VIT, 2)
    reduced = both.reduce(teacher)
    assert set(reduced.values) == {"soft.logits", "pooled.means"}
    assert both.reduction() == {"soft.logits": "logits", "pooled.means": ("stages.0 mean", "stages.1 mean")}
    alone = build("pooled")
    expected = {
        "soft.soft": build("soft")(student, teacher, batch())["soft"],
        "pooled.mean": alone(student, alone.reduce(teacher), batch())["mean"],
    }
    same(both(student, reduced, batch()), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("soft+att", "unknown strategy 'att'; did you mean at"),
        ("soft+soft", r"soft\+soft: a combination can have each strategy only once"),
        ("soft+", r"combination 'soft\+': write name\+name"),
        ("+soft", r"combination '\+soft': write name\+name"),
        ("soft++at", r"combination 'soft\+\+at': write name\+name"),
        ("kdzoo:soft+my-pack:nosy", "write name"),
        ("kdzoo+my-pack+kdzoo:soft+nosy", "write name"),
        ("all+soft", "unknown strategy 'all'"),
    ],
)
def test_what_cannot_be_combined_is_refused(name: str, message: str, registry: Registry) -> None:
    with pytest.raises(UsageError, match=message):
        registry.strategy(name)


def test_parts_with_different_numbers_of_views_are_refused(build: Callable[..., Strategy]) -> None:
    with pytest.raises(UsageError, match=r"soft\+twoviews: its parts want .* views of a sample \(soft 1, twoviews 2\)"):
        build("soft+twoviews")
    with pytest.raises(UsageError, match=r"\(twoviews 2, flagged 1\)"):
        build("twoviews+flagged")
    assert build("twoviews+flagged", **{"flagged.twice": True}).views == 2
    assert build("soft+flagged").views == 1


@pytest.mark.parametrize(
    ("first", "message"),
    [(Headed, "because both say how the student predicts"), (Hardest, "because both combine gradients")],
)
def test_two_of_what_there_can_be_one_are_refused(first: type[Strategy], message: str) -> None:
    class Second(first):  # type: ignore[misc, valid-type]
        name = "second"

    with pytest.raises(
        UsageError, match=rf"{first.name}\+second: {first.name} and second cannot be combined, {message}"
    ):
        Registry([Plugin("p", "pack", "1", [first, Second])]).strategy(f"{first.name}+second")


def test_origin_and_revision_come_from_the_parts(registry: Registry) -> None:
    own, mixed = registry.strategy("kdzoo:soft+at"), registry.strategy("soft+headed")
    assert (own.name, own.plugin.distribution, own.value.revision) == ("soft+at", "kdzoo", "1+1")
    assert (mixed.name, mixed.plugin.distribution, mixed.plugin.version) == (
        "soft+headed",
        "kdzoo+my-pack",
        f"{own.plugin.version}+2.5",
    )
    assert registry.strategy("kdzoo+my-pack:soft+headed") is mixed
    assert registry.strategy("soft+at") is own

    class Revised(Headed):
        name = "headed"
        revision = "7"

    later = Registry([*load_plugins(), Plugin("tests", "my-pack", "2.5", [Revised])])
    assert later.strategy("soft+headed").value.revision == "1+7"


def test_a_clash_of_parts_is_told_and_a_prefix_picks_one() -> None:
    class Other(Headed):
        name = "headed"

    registry = Registry([*load_plugins(), Plugin("a", "left", "1", [Headed]), Plugin("b", "right", "1", [Other])])
    with pytest.raises(UsageError, match="strategy 'headed' is brought by left and right"):
        registry.strategy("soft+headed")
    assert registry.strategy("kdzoo+right:soft+headed").parts[1].value is Other


def test_at_most_five_parameters_are_searched_taken_in_turn(registry: Registry) -> None:
    kind = registry.strategy("searched+soft+at").value
    searched = [name for name, spec in kind.hyperparameters().items() if spec.search]
    assert searched == ["searched.a", "searched.b", "soft.temperature", "soft.alpha", "at.beta"]
    assert "and so not: at.power, searched.c." in (kind.__doc__ or "")
    assert len([spec for spec in registry.strategy("soft+at").value.hyperparameters().values() if spec.search]) == 4


def test_a_combination_is_per_sample_if_all_its_parts_are(registry: Registry) -> None:
    found = {name: registry.strategy(name).value.per_sample for name in ("soft+at", "fitnets+soft", "soft+rkd")}
    assert found == {"soft+at": True, "fitnets+soft": True, "soft+rkd": False}
