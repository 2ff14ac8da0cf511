"""Combinations: ``soft+at`` is a strategy of two, whose terms are added."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdzoo.declarations import SIGNALS, Signal, alone, student_signals, teacher_signals
from kdzoo.errors import KdzooError, UsageError
from kdzoo.outputs import Backward, Batch, Outputs, Setup
from kdzoo.parameters import MOST_SEARCHED, Param, Value, param
from kdzoo.strategy import Phase, Strategy, Terms

_ALL_CLAIM = ("zero_when_equal", "non_negative", "symmetric", "per_sample")
_ONE_CLAIMS = ("mode_seeking", "order_dependent", "stochastic")
"""What is true of a sum if it is of all its terms, and what if it is of one."""


class Combination(Strategy):
    """Base of the classes that :func:`combine` makes.

    Each part is built as it would be alone and sees its own signals only. Its hyperparameters and terms carry its name,
    as in ``soft.temperature``. The hard-label loss has the combination's own weight, whatever the parts give it alone.
    A modifier among them has no terms and no phases: the parts that ask the teacher for what it modifies see that.
    """

    family = "combination"
    kinds: ClassVar[tuple[type[Strategy], ...]] = ()
    reduces: ClassVar[bool] = False

    ce_weight: float = param(1.0, "weight of the hard-label loss", ge=0.0)

    @classmethod
    def hyperparameters(cls) -> dict[str, Param]:
        """Those of the parts by full name, and ``ce_weight``; of what the parts search, no more than may be."""
        declared = {f"{kind.name}.{key}": spec for kind in cls.kinds for key, spec in kind.hyperparameters().items()}
        searched = set(_searched_in_turn(cls.kinds)[:MOST_SEARCHED])
        kept = {
            name: spec if spec.search is None or name in searched else dataclasses.replace(spec, search=None)
            for name, spec in declared.items()
        }
        return kept | super().hyperparameters()

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Value]:
        """See :meth:`kdzoo.Strategy.resolve`; a part may also refuse its values for reasons of its own."""
        found = super().resolve(values)
        for kind in cls.kinds:
            found |= {f"{kind.name}.{key}": value for key, value in kind.resolve(_values_of_part(kind, found)).items()}
        return found

    def build(self, setup: Setup) -> None:
        """Build the parts, in order.

        Raises:
            UsageError: the parts want different numbers of views, which their parameters may decide.
        """
        values = {name: getattr(self, name) for name in self.hyperparameters()}
        parts = []
        for kind in self.kinds:
            asked = teacher_signals(kind)
            own = dataclasses.replace(
                setup,
                classifier=setup.classifier if "classifier" in asked else None,
                pre_activations=setup.pre_activations if "pre_stages" in asked else None,
            )
            parts.append(kind(own, **_values_of_part(kind, values)))
        viewing = [part for part in parts if not part.modifies or part.views > 1]
        if len({part.views for part in viewing}) > 1:
            listed = ", ".join(f"{part.name} {part.views}" for part in viewing)
            raise UsageError(f"{self.name}: its parts want different numbers of views of a sample ({listed})")
        self.views = viewing[0].views
        self.parts = nn.ModuleList(parts)
        for alias, place, name in _deployed(self.kinds):
            self.add_module(alias, parts[place].get_submodule(name))
        self._alone: dict[str, int] = {}
        self._main = ["main"] * len(parts)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Those of the one part that has several; the others join it in its last one.

        Raises:
            UsageError: two parts have several, or the parts train different networks in the last one.
        """
        plans = [(Phase("main", epochs),) if part.modifies else part.phases(epochs) for part in self.each()]
        several = [place for place, plan in enumerate(plans) if len(plan) > 1]
        if len(several) > 1:
            first, second = (self.kinds[place].name for place in several[:2])
            raise UsageError(f"{self.name}: {first} and {second} both have phases of their own, which cannot be joined")
        lasts = [plan[-1] for plan in plans]
        joining = {kind.name: last for kind, last in zip(self.kinds, lasts, strict=True) if not kind.modifies}
        if len({last.trains for last in joining.values()}) > 1:
            listed = ", ".join(f"{name} {last.trains}" for name, last in joining.items())
            raise UsageError(f"{self.name}: its parts cannot train together, as they train different things ({listed})")
        leader = several[0] if several else [kind.name for kind in self.kinds].index(next(iter(joining)))
        self._alone = {phase.name: leader for phase in plans[leader][:-1]}
        self._main = [last.name for last in lasts]
        joined = dataclasses.replace(
            lasts[leader],
            hard_labels=any(last.hard_labels for last in joining.values()),
            teacher=any(last.teacher for last in joining.values()),
        )
        return (*plans[leader][:-1], joined)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms of all parts, each under ``part.term``; in a phase that one part brings, those of that part."""
        terms: Terms = {}
        alone = self._alone.get(batch.phase)
        changed: tuple[Outputs, Outputs] | None = None
        for place, part in enumerate(self.each()):
            kind = self.kinds[place]
            if kind.modifies or alone not in (None, place):
                continue
            seen = batch if alone == place else dataclasses.replace(batch, phase=self._main[place])
            mine, theirs = only(student, student_signals(kind)), self.outputs_of(teacher, kind)
            weight = 1.0
            if teacher.values and _sees_modified(kind, self.kinds):
                changed = changed or self._modified(student, teacher, batch)
                mine, theirs = _overlaid(mine, changed[0]), _overlaid(theirs, changed[1])
                weight = self._term_weight(kind)
            own: Any = part(mine, theirs, seen)
            if not isinstance(own, dict):
                listed = type(own).__name__
                raise KdzooError(f"forward of {kind.name} must give a dict such as {{'kd': loss}}, not a {listed}")
            terms |= {f"{kind.name}.{name}": value if weight == 1 else weight * value for name, value in own.items()}
        return terms

    def outputs_of(self, teacher: Outputs, kind: type[Strategy]) -> Outputs:
        """What one part is given of the teacher, before any modifier."""
        if not self.reduces:
            return only(teacher, teacher_signals(kind))
        own = _outputs_of_part(teacher, kind.name)
        # Behind a modifier the part reduces the teacher's signals itself.
        return Outputs(own.values) if _sees_modified(kind, self.kinds) else own

    def _modified(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        """Of both networks, the signals that the modifiers change, one after the other."""
        changed = Outputs({}), Outputs({})
        for part, kind in zip(self.each(), self.kinds, strict=True):
            if kind.modifies:
                mine = _overlaid(only(student, student_signals(kind)), changed[0])
                theirs = _overlaid(Outputs(self.outputs_of(teacher, kind).values), changed[1])
                found = part.modify(mine, theirs, batch)
                changed = _joined(changed[0], found[0], kind), _joined(changed[1], found[1], kind)
        return changed

    def _term_weight(self, kind: type[Strategy]) -> float:
        """By what the modifiers multiply the terms of a part."""
        return math.prod(part.term_weight for part in self.each() if _sees_modified(kind, [type(part)]))

    def each(self) -> Iterator[Strategy]:
        """The parts, in order."""
        for part in self.parts:
            assert isinstance(part, Strategy)
            yield part


def parts_of(kind: type[Strategy]) -> tuple[type[Strategy], ...]:
    """The strategies that a combination consists of; any other strategy itself."""
    return kind.kinds if issubclass(kind, Combination) else (kind,)


def _deployed(kinds: Sequence[type[Strategy]]) -> list[tuple[str, int, str]]:
    """(alias in the combination, place of the part, name in the part) of each module that stays with the student."""
    return [(f"{kind.name}_{name}", place, name) for place, kind in enumerate(kinds) for name in kind.deployed]


def _sees_modified(kind: type[Strategy], kinds: Iterable[type[Strategy]]) -> bool:
    """Whether a part asks the teacher for something that one of these modifies."""
    return not kind.modifies and any(teacher_signals(kind) & set(each.modifies) for each in kinds)


def _overlaid(outputs: Outputs, changed: Outputs) -> Outputs:
    """The signals, as they were changed where they were."""
    return Outputs({name: changed.values.get(name, value) for name, value in outputs.values.items()})


def _joined(changed: Outputs, found: Outputs, modifier: type[Strategy]) -> Outputs:
    """What was changed so far, and what one more modifier changes."""
    return Outputs({**changed.values, **only(found, modifier.modifies).values})


def only(outputs: Outputs, signals: Collection[str]) -> Outputs:
    """The named signals, as far as they are there."""
    return Outputs({name: value for name, value in outputs.values.items() if name in signals})


def _outputs_of_part(outputs: Outputs, name: str) -> Outputs:
    """What one part asked the teacher's signals to be reduced to."""
    prefix = f"{name}."
    values = {key.removeprefix(prefix): one for key, one in outputs.values.items() if key.startswith(prefix)}
    return Outputs(values, reduced=outputs.reduced)


def _values_of_part(kind: type[Strategy], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one part, by its own names."""
    return {key: values[f"{kind.name}.{key}"] for key in kind.hyperparameters()}


def _searched_in_turn(kinds: Sequence[type[Strategy]]) -> list[str]:
    """What the parts search, by full name: the first parameter of each part, then the second of each, and so on."""
    searched = [[key for key, spec in kind.hyperparameters().items() if spec.search] for kind in kinds]
    longest = max((len(keys) for keys in searched), default=0)
    return [
        f"{kind.name}.{keys[turn]}"
        for turn in range(longest)
        for kind, keys in zip(kinds, searched, strict=True)
        if turn < len(keys)
    ]


def combine(kinds: Sequence[type[Strategy]], revisions: Sequence[str]) -> type[Combination]:
    """The strategy that adds the terms of several.

    Args:
        kinds: the parts, in the order in which they are named.
        revisions: theirs, of which the combination's own consists: a part that is revised makes another combination.

    Raises:
        UsageError: these strategies cannot be combined.
    """
    name = "+".join(kind.name for kind in kinds)
    if len({kind.name for kind in kinds}) < len(kinds):
        raise UsageError(f"{name}: a combination can have each strategy only once")
    _check_modifiers(name, kinds)
    if making := next((kind.name for kind in kinds if kind.variants > 1), ""):
        raise UsageError(f"{name}: {making} makes variants of each image, which the other parts do not know")
    body: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": _card(kinds),
        "name": name,
        "kinds": tuple(kinds),
        "signals": _ordered(signal for kind in kinds for signal in kind.signals),
        "teacher_signals": _ordered(signal for kind in kinds for signal in teacher_signals(kind)),
        "revision": "+".join(revisions),
        "deployed": tuple(alias for alias, _, _ in _deployed(kinds)),
    }
    body |= {claim: all(getattr(kind, claim) for kind in kinds) for claim in _ALL_CLAIM}
    body |= {claim: any(getattr(kind, claim) for kind in kinds) for claim in _ONE_CLAIMS}
    # An engine that finds no method of its own takes a shorter way, so there is one only where a part has one.
    if any(kind.survey is not Strategy.survey for kind in kinds):
        body["survey"] = _survey
    if any(_reduces(kind, kinds) for kind in kinds):
        body |= {"reduces": True, "reduce": _reduce, "reduction": _reduction}
    if own := next((kind.name for kind in kinds if kind.optimizer is not Strategy.optimizer), None):
        raise UsageError(f"{name}: {own} has an optimizer of its own for its terms, and cannot be combined")
    predicting = _the_one(name, "say how the student predicts", [_predicts(kind) for kind in kinds])
    if predicting is not None:
        body["predict"] = _predict_by(predicting)
    labelled = _the_one(
        name,
        "say which logits the labels train",
        [kind.hard_label_logits is not Strategy.hard_label_logits for kind in kinds],
    )
    if labelled is not None:
        if predicting not in (None, labelled):
            first, second = (name.split("+")[place] for place in (predicting, labelled))
            raise UsageError(f"{name}: {first} says how the student predicts, and {second} which logits labels train")
        body["hard_label_logits"] = _labels_by(labelled)
    combining = _the_one(
        name, "combine gradients in their own way", [kind.gradients is not Strategy.gradients for kind in kinds]
    )
    if combining is not None:
        body["gradients"] = _gradients_by(combining)
    return type("Combination", (Combination,), body)


def _check_modifiers(name: str, kinds: Sequence[type[Strategy]]) -> None:
    """Refuse modifiers of what nobody sees.

    Raises:
        UsageError: there is one.
    """
    others = [kind.name for kind in kinds if not kind.modifies]
    for kind in kinds:
        if kind.modifies and not others:
            raise UsageError(f"{name}: {alone(kind.name, kind.modifies)}")
        if kind.modifies and not any(_sees_modified(other, [kind]) for other in kinds):
            raise UsageError(
                f"{name}: {kind.name} changes the teacher's {' and '.join(kind.modifies)}, for which "
                f"{' and '.join(others)} {'do' if len(others) > 1 else 'does'} not ask: leave {kind.name} out"
            )


def _reduces(kind: type[Strategy], kinds: Sequence[type[Strategy]]) -> bool:
    """Whether a part reduces the teacher's signals before anybody changes them."""
    return kind.reduce is not Strategy.reduce and not kind.modifies and not _sees_modified(kind, kinds)


def _reduce(self: Combination, teacher: Outputs) -> Outputs:
    """What each part needs of the teacher, under ``part.value``."""
    found: dict[str, Any] = {}
    for part, kind in zip(self.each(), self.kinds, strict=True):
        own = only(teacher, teacher_signals(kind))
        own = part.reduce(own) if _reduces(kind, self.kinds) else own
        found |= {f"{kind.name}.{name}": value for name, value in own.values.items()}
    return Outputs(found)


def _reduction(self: Combination) -> dict[str, str | tuple[str, ...]]:
    """What the bank calls it; of a part that reduces nothing, the signals as they are."""
    texts: dict[str, str | tuple[str, ...]] = {}
    for part, kind in zip(self.each(), self.kinds, strict=True):
        whole = set() if _reduces(kind, self.kinds) else set(teacher_signals(kind)) - {"classifier"}
        texts |= {f"{kind.name}.{signal}": signal for signal in sorted(whole)}
        if not (kind.modifies or _sees_modified(kind, self.kinds)):
            texts |= {f"{kind.name}.{name}": text for name, text in part.reduction().items()}
    return texts


def _survey(self: Combination, batches: Iterable[tuple[Outputs, Batch]]) -> None:
    """What each part finds."""
    for part, kind in zip(self.each(), self.kinds, strict=True):
        if kind.survey is not Strategy.survey:
            part.survey(_SurveyOfPart(batches, self, kind))


@dataclasses.dataclass(frozen=True)
class _SurveyOfPart:
    """What one part sees of a survey."""

    batches: Iterable[tuple[Outputs, Batch]]
    whole: Combination
    kind: type[Strategy]

    def __iter__(self) -> Iterator[tuple[Outputs, Batch]]:
        return ((self.whole.outputs_of(outputs, self.kind), batch) for outputs, batch in self.batches)


def _predicts(kind: type[Strategy]) -> bool:
    return kind.predict is not Strategy.predict or bool(kind.deployed)


def _the_one(name: str, what: str, does: Sequence[bool]) -> int | None:
    """The place of the one part that does something of which there can be one; None where none does."""
    places = [place for place, one in enumerate(does) if one]
    if len(places) > 1:
        first, second = (name.split("+")[place] for place in places[:2])
        raise UsageError(f"{name}: {first} and {second} cannot be combined, because both {what}")
    return places[0] if places else None


def _predict_by(place: int) -> Any:
    def predict(self: Combination, student: Outputs) -> Tensor:
        """The logits of the part that says how the student predicts, B x classes."""
        part, kind = list(self.each())[place], self.kinds[place]
        # The engine measures with averages in the place of the modules that are named here.
        modules = {name: self._modules[alias] for alias, _, name in _deployed(self.kinds)}
        if any(part._modules[name] is not module for name, module in modules.items()):
            part = copy.copy(part)
            part._modules = part._modules | modules
        return part.predict(only(student, student_signals(kind)))

    return predict


def _labels_by(place: int) -> Any:
    def hard_label_logits(self: Combination, student: Outputs) -> Tensor:
        """The logits of the part that says which ones the labels train, B x classes."""
        return list(self.each())[place].hard_label_logits(only(student, student_signals(self.kinds[place])))

    return hard_label_logits


def _gradients_by(place: int) -> Any:
    def gradients(self: Combination, terms: Terms, backward: Backward) -> None:
        """The gradients of one part's terms and of the hard-label loss in that part's way; the others' are added."""
        part, prefix = list(self.each())[place], f"{self.kinds[place].name}."
        own = {name.removeprefix(prefix): term for name, term in terms.items() if name.startswith(prefix)}
        others = {name: term for name, term in terms.items() if not name.startswith(prefix) and name != "ce"}
        if not own:  # a phase that another part brings
            Strategy.gradients(self, terms, backward)
            return
        if "ce" in terms:
            own = {"ce": terms["ce"], **own}
        rest = torch.stack([term.float() for term in others.values()]).sum() if others else None
        if rest is None or not rest.requires_grad:
            part.gradients(own, backward)
            return
        # Before the rest, because a part may set gradients instead of adding to them.
        part.gradients(own, _Retaining(backward))
        backward(rest)

    return gradients


class _Retaining:
    """A backward pass after which another one follows through the same graph."""

    def __init__(self, backward: Backward) -> None:
        self._backward = backward
        self.parameters = backward.parameters

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        self._backward(loss, retain_graph=True)


def _ordered(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    asked = set(signals)
    return tuple(signal for signal in SIGNALS if signal in asked)


def _card(kinds: Sequence[type[Strategy]]) -> str:
    """What the combination's card says."""
    parts = [kind for kind in kinds if not kind.modifies]
    modifiers = " and then ".join(kind.name for kind in kinds if kind.modifies)
    cut = _searched_in_turn(kinds)[MOST_SEARCHED:]
    lines = [
        f"The terms of {' and '.join(kind.name for kind in parts)}, added"
        + (f", on signals as {modifiers} changes them." if modifiers else "."),
        "",
        "Loss: ce_weight CE(student, labels) + " + " + ".join(_terms_in_words(kind, kinds) for kind in parts) + ".",
        "",
        "Each part keeps its weights, adapters and signals. What it does with the hard-label loss when it is alone",
        "does not count: that has the weight ce_weight, 1 unless it is set.",
    ]
    if cut:
        lines += ["", f"Tuning searches at most {MOST_SEARCHED} parameters, and so not: {', '.join(cut)}."]
    return "\n".join(lines)


def _terms_in_words(kind: type[Strategy], kinds: Sequence[type[Strategy]]) -> str:
    """What stands in the equation for the terms of one part."""
    seen = [each for each in kinds if _sees_modified(kind, [each])]
    weights = "".join(f"{each.name}.term_weight x " for each in seen if "term_weight" in each.hyperparameters())
    changed = f" on the signals of {' and then '.join(each.name for each in seen)}" if seen else ""
    return f"{weights}the terms of {kind.name}{changed}"
