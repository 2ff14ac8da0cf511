"""The contract between kdzoo and a distillation strategy.

A strategy says which signals it needs, declares its hyperparameters, builds its adapters from shapes, and turns the
two networks' signals into named loss terms. The engine does the rest. The smallest strategy is one class with
:meth:`Strategy.forward`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from kdzoo.declarations import Paper, Phase, Signal, alone
from kdzoo.errors import UsageError
from kdzoo.outputs import Backward, Batch, Outputs, Setup, reduced_once
from kdzoo.parameters import Param, Value, resolve

if TYPE_CHECKING:
    from kdzoo.recipe import Recipe

Terms: TypeAlias = dict[str, Tensor]


class Strategy(nn.Module):
    """How knowledge goes from teacher to student.

    Subclass it, set the class attributes, and write :meth:`forward`; everything else has a default. Adapters made
    in :meth:`build` are trained with the student and checkpointed apart from it; memories are registered as buffers.

    Class attributes:
        name: what ``--strategies`` calls it.
        family: response, feature, attention, relation, contrastive, or a word of your own.
        paper: the source, or None.
        signals: what it needs of both networks.
        teacher_signals: what it needs of the teacher, where that differs; ``()`` leaves the teacher out.
        views: augmented versions of each sample in a batch; with 2, rows B..2B-1 are the second view of rows 0..B-1. A
            class attribute, or an instance attribute that :meth:`build` sets where a parameter decides.
        variants: images that :meth:`augment` makes of each image of a batch, itself among them.
        revision: raise it when a change of the maths makes older records incomparable; part of a cell's identity.
        deployed: names of own submodules that the trained student needs in order to predict (see :meth:`predict`).
        ce_weight: weight of the hard-label loss; a class attribute, an instance attribute or a property.
        modifies: the signals that it changes for others; with one it is a modifier, which has no terms of its own and
            is used in a combination only (see :meth:`modify`).
        term_weight: of a modifier, what the terms of the strategies that see the changed signals are multiplied by; a
            class attribute, an instance attribute or a property.

        per_sample: every term is the mean over a batch of values that each depend on one sample alone, but for batch
            normalisation modules. Where several processes train one cell, each then computes the loss of its own rows
            and sends gradients during the backward pass; by default each computes the loss of the whole batch.

    Claims, which ``kdzoo check-strategy`` reads; none of them changes a training. It holds the strategy to the first
    three, and the last three release it from a check:
        zero_when_equal: every term is 0 where student and teacher give the same signals.
        non_negative: no term is ever below 0.
        symmetric: the terms stay the same when student and teacher change places.
        mode_seeking: a student that is certain of one of the teacher's answers loses little, as under the reverse
            KL divergence; by default the student must cover all that the teacher finds possible.
        order_dependent: the terms depend on the order of the samples in the batch; by default they may not.
        stochastic: the terms depend on random numbers that are drawn anew at each step, such as masks or negatives; by
            default they may not, but for dropout modules of the strategy's own.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "other"
    paper: ClassVar[Paper | None] = None
    signals: ClassVar[tuple[Signal, ...]] = ("logits",)
    teacher_signals: ClassVar[tuple[Signal, ...] | None] = None
    views: int = 1
    variants: ClassVar[int] = 1
    revision: ClassVar[str] = "1"
    deployed: ClassVar[tuple[str, ...]] = ()
    ce_weight: float = 1.0
    modifies: ClassVar[tuple[Signal, ...]] = ()
    term_weight: float = 1.0
    per_sample: ClassVar[bool] = False

    zero_when_equal: ClassVar[bool] = False
    non_negative: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    mode_seeking: ClassVar[bool] = False
    order_dependent: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __init__(self, setup: Setup, **values: Any) -> None:
        super().__init__()
        for name, value in self.resolve(values).items():
            setattr(self, name, value)
        self.setup = setup
        self.build(setup)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "reduce" in vars(cls):
            cls.reduce = reduced_once(vars(cls)["reduce"])  # type: ignore[assignment]

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """:meth:`forward` on what :meth:`reduce` gives of the teacher's signals, or on that itself."""
        terms: Terms = super().__call__(student, self.reduce(teacher), batch)
        return terms

    @classmethod
    def hyperparameters(cls) -> dict[str, Param]:
        """The declared hyperparameters by name, base classes' first, in the order of declaration.

        What a class sets to a plain value is fixed in it, and no hyperparameter of it any more.
        """
        found: dict[str, Param] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Param):
                    found[name] = value
                else:
                    found.pop(name, None)
        return found

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Value]:
        """Every hyperparameter's value: the given ones, checked, over the defaults.

        Raises:
            UsageError: an unknown name, a wrong type or a value out of range.
        """
        return resolve(cls.name, cls.hyperparameters(), values)

    @classmethod
    def hops(cls, values: Mapping[str, Value], student: str) -> Sequence[tuple[str, Mapping[str, Value]]]:
        """The networks between teacher and student; by default none, and the teacher teaches.

        Each is trained as a cell of its own, by this strategy, before the student is: the first by the teacher, each by
        the one before it, and the student by the last. Their training counts in the row's time. Only networks taught by
        their own logits may be between: a strategy with ``deployed`` modules has none.

        Args:
            values: the hyperparameters.
            student: the student, as ``--student`` has it.

        Returns:
            For each, from the teacher's side: the network, as ``--student`` would have it, and what differs in the
            hyperparameters with which it is trained.

        Raises:
            PairError: the values name no chain.
        """
        return ()

    @classmethod
    def peer(cls, values: Mapping[str, Value], teacher: str, student: str) -> str | None:
        """A second student, trained at the same time; by default there is none.

        Then the teacher does not teach. In each step :meth:`forward` is called twice: with the student and the second
        one in the teacher's place, and the other way round; each learns from its own terms, and the other's signals
        carry no gradient. Both are measured and kept; the first is the row. Logits alone are exchanged, and the
        strategy has no modules of its own.

        Args:
            values: the hyperparameters.
            teacher: the teacher, as ``--teacher`` has it.
            student: the student, as ``--student`` has it.

        Returns:
            The network, as ``--student`` would have it.
        """
        return None

    def build(self, setup: Setup) -> None:
        """Make adapters and memories. Raise :class:`kdzoo.PairError` where the two networks do not fit."""

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The phases that share the recipe's epochs; by default one.

        Raises:
            UsageError: the hyperparameters leave no epoch for the main phase (asked before anything trains).
        """
        return (Phase("main", epochs),)

    def reduce(self, teacher: Outputs) -> Outputs:
        """What is needed of the teacher, where that is less than its signals; by default all of them.

        :meth:`forward` always gets the result in the signals' place, so that the teacher bank can keep the result
        instead. A pure function of each sample: row b of what it gives depends on row b of the signals, on
        hyperparameters and on the setup, and not on weights, memories, random numbers or other samples. What it gives
        it does not change again.

        Args:
            teacher: the signals that the strategy asks of the teacher.

        Returns:
            Values under any names, each a tensor of B rows, a tuple of such, or the classifier as it came.
        """
        return teacher

    def reduction(self) -> Mapping[str, str | tuple[str, ...]]:
        """What :meth:`reduce` gives, in words by which the bank knows it: value's name -> text.

        A text begins with the name of the signal and says all that the reduction depends on, such as
        ``"stages.2 pooled to 4x4"``: tensors with equal texts are equal, whatever strategy asks for them, and are
        kept once. ``"logits"``, ``"embedding"`` and ``"stages.2"`` are the signals as they are. A tuple of tensors has
        a tuple of texts. What is left out is kept for this strategy, with these hyperparameters and this pair, alone.
        """
        return {}

    def survey(self, batches: Iterable[tuple[Outputs, Batch]]) -> None:
        """Find statistics of the teacher over the training samples, before the first epoch; by default nothing is done.

        Overriding it asks for a pass of the teacher. What is found goes into buffers that :meth:`build` made; they are
        part of the checkpoint, so that a resumed training does not find it again.

        Args:
            batches: what :meth:`reduce` gives of the teacher's signals, and the batch; every training sample once, in
                their order, not augmented, and without gradients. They can be gone through several times.
        """

    def augment(self, images: Any) -> Any:
        """The images of a batch, and others that are made of them; both networks run on all of them.

        Called in training only, where ``variants`` is above 1, without gradients; it may draw random numbers.

        Args:
            images: R x C x H x W in [0, 1], augmented by the recipe.

        Returns:
            variants R rows of the same size: the images as they came, then the second variant of each, and so on. What
            follows, ``Batch`` included, has as many rows; the hard-label loss is that of the first R.
        """
        return images

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The named distillation terms, each a scalar that already carries its weight.

        Args:
            student: the student's signals.
            teacher: what :meth:`reduce` gives of the teacher's.
            batch: the labels and whatever else is known.
        """
        if self.modifies:
            raise UsageError(alone(self.name, self.modifies))
        raise NotImplementedError(f"strategy {self.name!r} does not define forward(student, teacher, batch)")

    def modify(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        """Of a modifier: the signals that the strategies beside it are to see.

        A combination calls it in each step and gives the result, of the signals in ``modifies``, to those of its parts
        that ask the teacher for one of them. The hard-label loss, :meth:`predict` and all other parts see the networks'
        own. Such a part's :meth:`reduce` runs behind it; the teacher bank keeps the signals as they are.

        Args:
            student: the student's signals that the modifier asks for.
            teacher: the teacher's.
            batch: the labels and whatever else is known.

        Returns:
            The student's and the teacher's, new tensors where they differ.
        """
        raise NotImplementedError(f"strategy {self.name!r} does not define modify(student, teacher, batch)")

    def predict(self, student: Outputs) -> Tensor:
        """The logits by which the student is trained on hard labels and measured, B x classes.

        Override it, and name the modules it uses in ``deployed``, where they stay with the student (for example a
        projector in front of the teacher's classifier).
        """
        return student.logits

    def hard_label_logits(self, student: Outputs) -> Tensor:
        """The logits that the hard-label loss trains, B x classes; by default those of :meth:`predict`.

        Override it where labels train a part of what predicts, such as one head of several.
        """
        return self.predict(student)

    def gradients(self, terms: Terms, backward: Backward) -> None:
        """Fill the gradients from all terms, the hard-label loss among them under ``"ce"``.

        Override it where the terms' gradients are combined otherwise than by their sum.
        """
        backward(torch.stack([term.float() for term in terms.values()]).sum())

    def optimizer(self, made: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.Optimizer:
        """The optimizer of a phase; by default the recipe's, as it is made.

        Override it where the method is a way to step, such as a momentum of its own for each term. What it gives has
        the parameters and groups of ``made``, whose ``lr`` the schedule sets, and keeps everything that must outlive a
        step in its state, by parameter: that is checkpointed. Called at the start of each phase, and once while
        planning, with the optimizer of another module.

        Args:
            made: the recipe's, over all that the phase trains; its groups say rate, momentum and weight decay.
            recipe: of the training, read-only.

        Raises:
            PairError: the method makes no sense with this recipe (reported before anything trains, as for a pair).
        """
        return made
