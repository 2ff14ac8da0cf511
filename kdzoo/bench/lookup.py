"""What a plan must know of devices, data, networks and strategies: found out by torch, or known from earlier commands.

Each method asks one question. With loaded plugins it is worked out, and noted in the cache; else only what is known
counts, and nothing here imports torch. What may change without a trace (weights of a hub, datasets of plugins,
a strategy with a bug) is never noted.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from kdzoo.bench.facts import DataFacts, NetworkFacts, PairCheck, PairPlan, TeacherFacts, is_plain, network_question
from kdzoo.config import BenchConfig
from kdzoo.data.builtin import files_of
from kdzoo.data.contents import Stamp, stamp_files
from kdzoo.data.dataset import parse_subset
from kdzoo.known import NotKnownError
from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.registry import Registry
from kdzoo.space import Range

if TYPE_CHECKING:
    import torch

    from kdzoo.data.load import LoadedData

_T = TypeVar("_T")


class Lookup:
    """Answers what a plan asks.

    Args:
        config: the bench.
        registry: the plugins, loaded or from the cache.

    Attributes:
        loaded: the datasets, where plugins were loaded.
    """

    def __init__(self, config: BenchConfig, registry: Registry) -> None:
        self.config, self.registry = config, registry
        self.loaded: dict[DataRef, LoadedData] = {}

    def _ask(
        self,
        question: list[Any],
        work: Callable[[], _T],
        kind: Any,
        *,
        keep: Callable[[_T], object] = lambda _: True,
    ) -> _T:
        """The answer to a question.

        Args:
            question: plain values: all that the answer depends on, beside the environment.
            work: finds the answer out.
            kind: its type.
            keep: whether an answer may be kept.
        """
        cache, adapter = self.registry.cache, _adapter(kind)
        if not self.registry.loaded:
            if cache is None:
                raise NotKnownError(str(question))
            known: _T = adapter.validate_json(json.dumps(cache.answer(question)))
            return known
        found = work()
        if cache and keep(found):
            cache.note(question, adapter.dump_python(found, mode="json"))
        return found

    def _check(self, question: list[Any], work: Callable[[], object], *, keep: bool = True) -> None:
        """Ask for something that is well where it raises no error."""
        self._ask(question, lambda: bool(work()), bool, keep=lambda _: keep)

    def device(self, precisions: Sequence[str]) -> torch.device | None:
        """Where cells are trained; None where torch was not asked.

        Raises:
            UsageError: there is no such device, or it cannot train in a precision.
        """

        found: list[torch.device] = []

        def work() -> None:
            from kdzoo.engine.devices import check_precision, pick_device

            found.append(pick_device(self.config.device))
            for precision in precisions:
                check_precision(found[0], precision)

        self._check(["device", self.config.device, *precisions], work)
        return found[0] if found else None

    def check_model(self, ref: ModelRef) -> None:
        """Refuse a name that timm does not know, and arguments that are not the person's to set.

        Raises:
            UsageError: with the closest names or tags.
        """

        def work() -> None:
            from kdzoo.models.zoo import check_model

            check_model(ref)

        # Records of plugins' models name the digest of the code, which timm must find.
        self._check(["model", ref.model_dump()], work, keep=is_plain(ref) and self.registry.model(ref.name) is None)

    def data(self, name: str) -> DataFacts:
        """A dataset; with loaded plugins it is opened.

        Raises:
            UsageError: the name is malformed or unknown, or the data are missing, unreadable or damaged.
        """
        size = self.config.size()
        folder = Path(self.config.data_dir) if self.config.data_dir else None
        began = time.time_ns()
        stamp = self._stamp(name, folder)

        def work() -> DataFacts:
            from kdzoo.data.load import open_data
            from kdzoo.data.survey import has_files

            data = open_data(
                name, self.registry.find_dataset, data_dir=folder, download=self.config.download, img_size=size
            )
            self.loaded[data.ref] = data
            return DataFacts(data.ref, data.classes, data.notes, data.covers, has_files(data), data.changed)

        def keep(found: DataFacts) -> object:
            return stamp and stamp.settled(began) and not found.warning

        if stamp is None and not self.registry.loaded:
            raise NotKnownError(name)
        return self._ask(["data", name, size, stamp and stamp.digest], work, DataFacts, keep=keep)

    def _stamp(self, name: str, folder: Path | None) -> Stamp | None:
        """The stamp of a dataset's files; None where it is not known which they are."""
        base, _ = parse_subset(name)
        own = base.startswith("folder:") or (
            "/" not in base and self.registry.dataset(base).plugin.origin == ("kdzoo", "data")
        )
        if not own or (folder is not None and not folder.is_dir()):
            return None
        return stamp_files(files_of(base, folder))

    def check_recipe(self, recipe: Recipe, ref: DataRef) -> None:
        """Refuse a recipe that timm or the data would refuse later.

        Raises:
            UsageError: an unknown optimizer, mixup in batches of odd size, or augmentation that does not fit the data.
        """

        def work() -> None:
            from kdzoo.engine.optim import check_recipe

            check_recipe(recipe, ref.fit)
            self.loaded[ref].check_recipe(recipe)

        self._check(["recipe", recipe.model_dump(), ref.model_dump()], work)

    def teacher(self, model: ModelRef, data: DataFacts, recipe: Recipe, baseline: StrategyRef) -> TeacherFacts:
        """What a teacher is: its weights, and how it is trained where they are not there yet.

        Raises:
            UsageError: the weights cannot be had, or belong to another network.
        """
        wanted, asked = self.config.teacher_weights, self.config.teacher_input
        began = time.time_ns()
        stamp = stamp_files([] if wanted in ("auto", "train", "pretrained") else [Path(wanted)])

        def work() -> TeacherFacts:
            from kdzoo.bench.teachers import resolve_teacher

            return resolve_teacher(model, wanted, self.loaded[data.ref], recipe, baseline, asked)

        def keep(found: TeacherFacts) -> object:
            return found.ref.weights in ("trained", "file") and is_plain(model) and stamp and stamp.settled(began)

        file = [wanted, stamp and stamp.digest, asked and asked.model_dump()]
        training = [recipe.model_dump(), baseline.model_dump()]
        question = ["teacher", model.model_dump(), file, training, data.ref.model_dump(), data.classes]
        return self._ask(question, work, TeacherFacts, keep=keep)

    def start(self, student: ModelRef, ref: DataRef) -> str:
        """What a student starts from, as its cells have it.

        Raises:
            UsageError: its name says which weights are meant, and nothing was said; or there are none.
        """
        wanted = self.config.student_init

        def work() -> str:
            from kdzoo.bench.teachers import choose_init

            return choose_init(student, wanted, self.loaded[ref])

        question = ["start", student.model_dump(), wanted, ref.model_dump()]
        return self._ask(question, work, str, keep=lambda init: init == "random" and is_plain(student))

    def network(self, network: TeacherRef | ModelRef, ref: DataRef, *, own_input: bool = False) -> NetworkFacts:
        """A network's shapes and size.

        Args:
            network: a teacher, or the model of a student.
            ref: the dataset.
            own_input: whether a student sees images as timm's weights were trained on them.

        Raises:
            UsageError: timm refuses the name, an argument or the size.
        """

        def work() -> NetworkFacts:
            from kdzoo.bench.build import measure_network

            return measure_network(network, self.loaded[ref], own_input=own_input)

        model = network.model if isinstance(network, TeacherRef) else network
        question = ["network", *network_question(network, own_input), ref.model_dump()]
        return self._ask(question, work, NetworkFacts, keep=lambda _: is_plain(model))

    def check(
        self, strategy: StrategyRef, pair: PairPlan, recipes: Sequence[Recipe], *, between: bool = False
    ) -> PairCheck:
        """Whether a strategy serves a pair: it is built once, from shapes, and asked for its phases and its optimizer.

        Args:
            strategy: with its parameters.
            pair: on a dataset.
            recipes: of the trainings.
            between: whether the student is a network between teacher and student, so that no others are asked for.

        Raises:
            UsageError: its phases do not fit into the epochs.
        """

        def keep(found: PairCheck) -> bool:
            return not found.broken and not found.warning and pair.plain

        # Only an optimizer depends on more of a recipe than its length.
        whole = self.registry.of(strategy).declared.own_optimizer
        asked = [recipe.model_dump(exclude={"name"}) if whole else recipe.epochs for recipe in recipes]
        question = ["between" if between else "pair", strategy.model_dump(), *asked, *pair.question]

        def work() -> PairCheck:
            from kdzoo.bench.build import check_pair

            return check_pair(strategy, self.registry.of(strategy), pair, recipes, between=between)

        return self._ask(question, work, PairCheck, keep=keep)

    def check_ranges(self, strategy: StrategyRef, space: Mapping[str, Range], pair: PairPlan, epochs: int) -> None:
        """Try the ends of the ranges that a person gave for tuning; see :func:`kdzoo.bench.build.check_ranges`.

        Raises:
            UsageError: an end cannot be tried.
        """

        def work() -> None:
            from kdzoo.bench.build import check_ranges

            check_ranges(strategy, self.registry.of(strategy).value, space, pair, epochs)

        ranges = {name: tried.model_dump() for name, tried in space.items()}
        self._check(["ranges", strategy.model_dump(), ranges, epochs, *pair.question], work)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
