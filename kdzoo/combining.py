"""Combining strategies: which go together, and the class that several of them make."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kdzoo.combination import Combination, check_modifiers, deployed_names, searched_in_turn, sees_modified
from kdzoo.declarations import SIGNALS, Signal, student_signals, teacher_signals
from kdzoo.errors import UsageError
from kdzoo.outputs import Backward, Batch, Outputs, only
from kdzoo.parameters import MOST_SEARCHED
from kdzoo.strategy import Strategy, Terms

_ALL_CLAIM = ("zero_when_equal", "non_negative", "symmetric", "per_sample")
_ONE_CLAIMS = ("mode_seeking", "order_dependent", "stochastic")
"""What is true of a sum if it is of all its terms, and what if it is of one."""


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
    check_modifiers(name, kinds)
    if making := next((kind.name for kind in kinds if kind.variants > 1), ""):
        raise UsageError(f"{name}: {making} makes variants of each image, which the other parts do not know")
    if chains := [kind.name for kind in kinds if _trains_others(kind)]:
        raise UsageError(f"{name}: {chains[0]} trains networks beside the student, and is run alone")
    body: dict[str, Any] = {
        "__module__": Combination.__module__,
        "__doc__": _card(kinds),
        "name": name,
        "kinds": tuple(kinds),
        "signals": _ordered(signal for kind in kinds for signal in kind.signals),
        "teacher_signals": _ordered(signal for kind in kinds for signal in teacher_signals(kind)),
        "revision": "+".join(revisions),
        "deployed": tuple(alias for alias, _, _ in deployed_names(kinds)),
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


def _reduces(kind: type[Strategy], kinds: Sequence[type[Strategy]]) -> bool:
    """Whether a part reduces the teacher's signals before anybody changes them."""
    return kind.reduce is not Strategy.reduce and not kind.modifies and not sees_modified(kind, kinds)


def _trains_others(kind: type[Strategy]) -> bool:
    """Whether a strategy trains other networks than the student."""
    return any(vars(base).keys() & {"hops", "peer"} for base in kind.__mro__ if base not in Strategy.__mro__)


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
        if not (kind.modifies or sees_modified(kind, self.kinds)):
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
        modules = {name: self._modules[alias] for alias, _, name in deployed_names(self.kinds)}
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
    cut = searched_in_turn(kinds)[MOST_SEARCHED:]
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
    seen = [each for each in kinds if sees_modified(kind, [each])]
    weights = "".join(f"{each.name}.term_weight x " for each in seen if "term_weight" in each.hyperparameters())
    changed = f" on the signals of {' and then '.join(each.name for each in seen)}" if seen else ""
    return f"{weights}the terms of {kind.name}{changed}"
