"""What a plan builds to find out whether it works: networks and strategies, blank; and how a strategy is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from kdzoo import foreign
from kdzoo.bench.facts import NetworkFacts, PairCheck, PairPlan
from kdzoo.bench.teachers import teacher_network
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Signature, pair_stages, student_signals, teacher_signals
from kdzoo.engine.balance import competes
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.optim import make_optimizer
from kdzoo.errors import PairError, UsageError, raise_if_interrupted
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Committee, Teacher, refuse_beside_logits
from kdzoo.models.zoo import create_model, profile_model
from kdzoo.outputs import Classifier, PreActivation, Setup
from kdzoo.process_state import ProcessState
from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef, ModelRef, Scalar, StrategyRef, TeacherRef
from kdzoo.registry import Registered
from kdzoo.space import Range
from kdzoo.strategy import Strategy


def make_setup(
    student: Signature,
    teacher: Signature,
    data: DataRef,
    classifier: Classifier | None,
    pre_activations: tuple[PreActivation | None, ...] | None = None,
) -> Setup:
    """The setup of a strategy on a pair and a dataset; see :class:`kdzoo.Setup`."""
    return Setup(
        student=student,
        teacher=teacher,
        stage_pairs=pair_stages(student, teacher),
        num_classes=data.num_classes,
        num_samples=data.fit,
        classifier=classifier,
        pre_activations=pre_activations,
    )


def build_strategy(
    kind: type[Strategy],
    params: Mapping[str, Scalar],
    student: Signature,
    teacher: Teacher | None,
    data: DataRef,
    *,
    seed: int | None = None,
) -> Strategy:
    """A strategy with its parameters, on the shapes of its networks.

    Args:
        kind: its class.
        params: its parameters.
        student: shapes of the student.
        teacher: the network that teaches; None where there is none, and the student's shapes take its place.
        data: the dataset.
        seed: of all generators, set immediately before the strategy is made; None leaves them alone.

    Raises:
        PairError: the strategy cannot serve the pair, or asks for the classifier of a teacher that has none.
    """
    signals = teacher_signals(kind)
    if isinstance(teacher, Committee):
        refuse_beside_logits(signals)
    classifier = teacher.classifier() if teacher and "classifier" in signals else None
    before = teacher.pre_activations() if teacher and "pre_stages" in signals else None
    setup = make_setup(student, teacher.signature() if teacher else student, data, classifier, before)
    if seed is not None:
        seed_everything(seed)
    return kind(setup, **params)


def measure_network(network: TeacherRef | ModelRef, data: LoadedData, *, own_input: bool) -> NetworkFacts:
    """A network's shapes and size on a dataset; see :meth:`kdzoo.bench.lookup.Lookup.network`."""
    if isinstance(network, TeacherRef):
        model = teacher_network(network, data)
    else:
        model = create_model(network, data.ref, data.mean, data.std, own_input=own_input)
    before = tuple(map(_blank_before, model.pre_activations()))
    return NetworkFacts(model.signature(), profile_model(model, data.ref), _blank_classifier(model), before)


def _blank_classifier(model: TappedModel) -> Classifier | PairError:
    try:
        weight, bias = model.classifier()
    except PairError as error:
        return error
    return Classifier(torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias))


def _blank_before(before: PreActivation | None) -> PreActivation | None:
    if before is None or before.weight is None or before.bias is None:
        return before
    return PreActivation(torch.ones_like(before.weight), torch.zeros_like(before.bias))  # as a fresh layer has them


def check_pair(
    strategy: StrategyRef,
    entry: Registered[type[Strategy]],
    pair: PairPlan,
    recipes: Sequence[Recipe],
    *,
    between: bool = False,
) -> PairCheck:
    """Build a strategy once, from shapes, and ask it for its phases and its optimizer.

    Args:
        strategy: with its parameters.
        entry: its class.
        pair: on a dataset.
        recipes: of the trainings.
        between: whether the student is a network between teacher and student, so that no others are asked for.

    Raises:
        UsageError: its phases do not fit into the epochs.
    """
    lengths = [recipe.epochs for recipe in recipes]
    refused = broken = peer = ""
    hops: tuple[tuple[str, dict[str, Scalar]], ...] = ()
    beside_labels = False
    state = ProcessState.now()
    try:
        hops = () if between else _hops(strategy.params, entry.value, pair)
        built = entry.value(_blank_setup(pair, entry.value), **strategy.params)
        peer = "" if between else _peer(built, strategy.params, pair)
        planned = {length: sum(phase.epochs for phase in built.phases(length)) for length in lengths}
        beside_labels = competes(built, lengths[0])
        for recipe in recipes:
            _check_optimizer(built, recipe)
    except PairError as error:
        refused = str(error)
    except UsageError:
        raise
    except BaseException as error:
        raise_if_interrupted(error)
        # A plugin's bug: said now, and its cells fail in their turn with the traceback, and the others run.
        broken = foreign.sentence(error, entry.homes)
    else:
        for length, total in planned.items():
            if total != length:
                raise UsageError(f"the phases of {strategy.name} take {total} epochs, and the recipe has {length}")
    finally:
        state.put_back()
    changed = f"{strategy.name} {state.summary()}" if state.changed else ""
    return PairCheck(refused, broken, changed, hops, peer, beside_labels)


def _hops(
    params: Mapping[str, Scalar], kind: type[Strategy], pair: PairPlan
) -> tuple[tuple[str, dict[str, Scalar]], ...]:
    """The networks that a strategy trains between teacher and student, each with all its hyperparameters."""
    named = kind.hops({name: value for name, value in params.items() if value is not None}, str(pair.student))
    if named and kind.deployed:
        raise TypeError(f"{kind.name} has modules that it deploys, so it can train no networks between")
    return tuple((text, {**params, **kind.resolve({**params, **changes})}) for text, changes in named)


def _peer(built: Strategy, params: Mapping[str, Scalar], pair: PairPlan) -> str:
    """The second student; empty for none."""
    values = {name: value for name, value in params.items() if value is not None}
    named = built.peer(values, str(pair.teacher.model), str(pair.student))
    if named and ({*student_signals(built), *teacher_signals(built)} != {"logits"} or built.state_dict()):
        raise TypeError(f"{built.name} has a second student, so its signals are the logits, and it has no modules")
    return named or ""


def _check_optimizer(strategy: Strategy, recipe: Recipe) -> None:
    """Ask a strategy that has an optimizer of its own for one, over a module that is not trained."""
    if type(strategy).optimizer is not Strategy.optimizer:
        strategy.optimizer(make_optimizer(nn.Linear(1, 1), recipe), recipe)


def _blank_setup(pair: PairPlan, kind: type[Strategy]) -> Setup:
    """What the strategy will be built from, with a blank classifier.

    Raises:
        PairError: it asks for the classifier of a network that has none, or of several teachers for more than logits.
    """
    if pair.teacher.members:
        refuse_beside_logits(teacher_signals(kind))
    for signals, network in ((student_signals(kind), pair.student_plan), (teacher_signals(kind), pair.teacher_plan)):
        if "classifier" in signals and isinstance(network.classifier, PairError):
            raise network.classifier
    asked = teacher_signals(kind)
    blank = pair.teacher_plan.classifier if "classifier" in asked else None
    return make_setup(
        pair.student_plan.signature,
        pair.teacher_plan.signature,
        pair.data,
        blank if isinstance(blank, Classifier) else None,
        pair.teacher_plan.pre_activations if "pre_stages" in asked else None,
    )


def _models(params: Mapping[str, Scalar], kind: type[Strategy], pair: PairPlan) -> list[str]:
    return [text for text, _ in _hops(params, kind, pair)]


def check_ranges(
    strategy: StrategyRef, kind: type[Strategy], space: Mapping[str, Range], pair: PairPlan, epochs: int
) -> None:
    """Build the strategy with both ends of each range that is not its own declaration's, the other values as they are.

    Args:
        strategy: with its values before tuning.
        kind: its class.
        space: full name -> what tuning tries; keys of the recipe are left alone.
        pair: on which it is tried.
        epochs: of a trial.

    Raises:
        UsageError: an end cannot be tried.
    """
    declared, setup = kind.hyperparameters(), _blank_setup(pair, kind)
    for full, tried in space.items():
        owner, _, name = full.rpartition(".")
        if owner != strategy.name or name not in declared or declared[name].search == (tried.low, tried.high):
            continue
        for end in (tried.low, tried.high):
            value = declared[name].type(end)
            if _models(strategy.params | {name: value}, kind, pair) != _models(strategy.params, kind, pair):
                raise UsageError(
                    f"search {full}={tried}: it decides which networks are trained between teacher and student, which "
                    f"is the same for all trials; give it by --set {full}="
                )
            try:
                kind(setup, **(strategy.params | {name: value})).phases(epochs)
            except (PairError, UsageError) as error:
                raise UsageError(f"search {full}={tried}: {value} cannot be tried on {pair}: {error}") from None
