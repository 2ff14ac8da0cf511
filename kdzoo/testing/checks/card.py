"""Checks of what the author documents: the card, the examples, the signals, how it predicts."""

from __future__ import annotations

import doctest
import inspect
import io
import re
import sys
from collections import UserDict
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kdzoo.combination import parts_of
from kdzoo.declarations import Paper, teacher_signals
from kdzoo.outputs import Classifier, Outputs
from kdzoo.strategy import Strategy
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import Tapped, tap_student

_IDENTITY = re.compile(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}|10\.\d{4,}/\S+|https://\S+")

_EQUATION = re.compile(r"^\s*(Loss|Equation)\b[^:]*:", re.MULTILINE)

_SHAPE = re.compile(r"\bB x \w")

_SOURCE = re.compile(r"^\s*(Paper|Source):\s*\S", re.MULTILINE)


def _card(subject: Subject) -> CheckResult:
    for kind in parts_of(subject.kind):
        if missing := _missing(kind):
            return failed(f"the card of {kind.name} lacks {', '.join(missing)}")
    return passed("the card has paper, equation, shapes, signals and parameters")


def card_text(kind: type[Strategy]) -> str:
    """All docstrings that belong to the card, each a paragraph of its own."""
    return "\n\n".join(inspect.cleandoc(text) for text in _texts(kind))


def _missing(kind: type[Strategy]) -> list[str]:
    if not vars(kind).get("__doc__"):
        return ["a docstring of the class"]
    text = card_text(kind)
    missing = [*_wrong_paper(kind.paper, text)]
    if not _EQUATION.search(text):
        missing.append("an equation (a line that begins with `Loss:` or `Equation:`)")
    if not _SHAPE.search(text):
        missing.append("shapes, such as `B x classes`")
    words = {each: each.removeprefix("pre_").rstrip("s") for each in sorted(_signals(kind))}
    missing += [f"a word on the signal {each!r}" for each, word in words.items() if word not in text]
    missing += [f"help for {name}" for name, spec in kind.hyperparameters().items() if not spec.help]
    return missing


def _signals(kind: type[Strategy]) -> set[str]:
    return {*kind.signals, *teacher_signals(kind)}


def _wrong_paper(paper: Paper | None, text: str) -> Iterator[str]:
    if paper is None:
        if not _SOURCE.search(text):
            yield "a paper (or a line `Paper:` that says what there is instead)"
        return
    for name in ("title", "authors", "venue"):
        if not getattr(paper, name).strip():
            yield f"the paper's {name}"
    if not 1900 < paper.year <= datetime.now(UTC).year + 1:
        yield f"the paper's year, which cannot be {paper.year}"
    if not _IDENTITY.fullmatch(paper.id):
        yield f"the paper's id, an arXiv number, a DOI or an address (https://...), which {paper.id!r} is not"


def _texts(kind: type[Strategy]) -> Iterator[str]:
    """The docstrings of the class, of its methods, and of the functions that its module uses from its package.

    A class that refines another strategy need not repeat what is told there.
    """
    yield from class_texts(kind)
    for function in _functions(kind):
        yield inspect.getdoc(function) or ""


def class_texts(kind: type[Strategy]) -> Iterator[str]:
    """The docstrings of the class with its methods, and of those that it refines, the nearest first."""
    for base in kind.__mro__[: kind.__mro__.index(Strategy)]:
        methods = (value for value in vars(base).values() if inspect.isfunction(value))
        texts = (vars(base).get("__doc__") or "", *(value.__doc__ or "" for value in methods))
        yield "\n\n".join(map(inspect.cleandoc, texts))


def _functions(kind: type[Strategy]) -> Iterator[Any]:
    package = kind.__module__.partition(".")[0]
    for name, value in vars(sys.modules[kind.__module__]).items():
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__.partition(".")[0] == package:
            yield value


class _Seen(UserDict[str, Any]):
    """Signals that remember which of them were read: by ``get`` or all by ``items``, too."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


def _signals_read(subject: Subject) -> CheckResult:
    kind, pair = subject.kind, subject.pair()
    drawn, strategy = subject.draw(pair), subject.build(pair.setup(subject.kind))
    seen = _Seen(), _Seen()

    def watched(tapped: Tapped, at: int) -> Tapped:
        seen[at].update(tapped.outputs.values)
        return Tapped(Outputs(seen[at]), tapped.sources)

    subject.call(pair, drawn, strategy=strategy, watched=watched)
    strategy.predict(Outputs(seen[0]))
    idle = [f"the student's {name}" for name in kind.signals if name not in seen[0].read]
    idle += [f"the teacher's {name}" for name in teacher_signals(kind) if name not in seen[1].read | {"classifier"}]
    if idle and subject.gives_terms:
        return warned(f"it asks for {', '.join(sorted(idle))} and does not read it")
    read = [", ".join(sorted(each.read)) or "nothing" for each in seen]
    return passed(f"it reads {read[0]} of the student and {read[1]} of the teacher")


def _predict(subject: Subject) -> CheckResult:
    kind, pair = subject.kind, subject.pair()
    if kind.predict is Strategy.predict:
        idle = f"`deployed` names {', '.join(kind.deployed)}, and `predict` is not overridden"
        return failed(idle) if kind.deployed else skipped("not overridden")
    strategy = subject.build(pair.setup(kind)).eval()
    if missing := [name for name in kind.deployed if name not in dict(strategy.named_modules())]:
        return failed(f"`deployed` names {', '.join(missing)}, which is no submodule")
    drawn = subject.draw(pair, 5)
    outputs = tap_student(kind, drawn.student, pair.layers[0]).outputs
    with torch.no_grad():
        logits = strategy.predict(outputs)
        wanted = (5 * subject.rows_of_sample, pair.student.num_classes)
        if logits.shape != wanted:
            return failed(f"it gives {tuple(logits.shape)} instead of {wanted}")
        if message := _of_others(strategy, outputs, logits):
            return failed(message)
        kept = tuple(f"{name}." for name in kind.deployed)
        for name, tensor in strategy.state_dict().items():
            # What get_extra_state gives is among them, and need be no tensor.
            if not name.startswith(kept) and isinstance(tensor, Tensor) and tensor.is_floating_point():
                tensor.add_(1.0)
        if not torch.equal(strategy.predict(outputs), logits):
            return failed("it uses parameters or buffers outside of the modules that `deployed` names")
    return passed(f"B x classes, by {', '.join(kind.deployed) or 'the student alone'}")


def _of_others(strategy: Strategy, outputs: Outputs, logits: Tensor) -> str:
    """Whether a prediction, in eval mode, depends on chance or on other samples, in words."""
    torch.manual_seed(1)
    if not torch.equal(strategy.predict(outputs), logits):
        return (
            "in eval mode it gives other logits at each call: F.dropout(x, p) is active there too, unless "
            "training=False is given"
        )
    one = strategy.predict(Outputs({name: _first_row(value) for name, value in outputs.values.items()}))
    if not torch.allclose(one, logits[:1], rtol=1e-3, atol=1e-4):
        return "in eval mode its logits of a sample depend on the other samples of the batch, as by a mean over dim 0"
    return ""


def _first_row(value: Any) -> Any:
    if isinstance(value, Classifier):
        return value
    return value[:1] if isinstance(value, Tensor) else tuple(each[:1] for each in value)


def _examples(subject: Subject) -> CheckResult:
    count = 0
    for test in _tests(subject.kind):
        count += len(test.examples)
        said = io.StringIO()
        with redirect_stdout(said):
            result = doctest.DocTestRunner(verbose=False).run(test, out=said.write)
        if result.failed:
            return failed(f"{result.failed} example(s) of {test.name} fail: {_brief(said.getvalue())}")
    return passed(f"{count} lines of examples") if count else warned("there is no example in the docstrings")


def _tests(kind: type[Strategy]) -> Iterator[doctest.DocTest]:
    """The examples of the strategies' modules, but for those of other strategies in them."""
    finder, seen = doctest.DocTestFinder(), set[str]()
    for part in parts_of(kind):
        others = [f"{each.__module__}.{each.__qualname__}" for each in _other_strategies(part)]
        for module in _modules(part):
            for test in finder.find(module, module.__name__):
                elsewhere = any(test.name == other or test.name.startswith(f"{other}.") for other in others)
                if test.name not in seen and not elsewhere:
                    seen.add(test.name)
                    yield test


def _modules(kind: type[Strategy]) -> list[ModuleType]:
    """The module of a strategy, and those modules of its package from which it has classes and functions."""
    home = sys.modules[kind.__module__]
    package = kind.__module__.partition(".")[0]
    names = {kind.__module__: home}
    for value in vars(home).values():
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        taken = inspect.ismodule(value) or inspect.isclass(value) or inspect.isfunction(value)
        if taken and isinstance(name, str) and name.partition(".")[0] == package and name in sys.modules:
            names[name] = sys.modules[name]
    return list(names.values())


def _other_strategies(kind: type[Strategy]) -> Iterator[type[Strategy]]:
    """Those of the same modules that it is not made from: their examples are their own."""
    for module in _modules(kind):
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Strategy) and value not in kind.__mro__:
                yield value


def _brief(report: str) -> str:
    """What doctest says of the first example, without its frame, in one line."""
    lines = [line.strip() for line in report.splitlines() if line.strip() and not line.startswith("*")]
    return " ".join(lines[1:])[:300]


SIGNALS_READ = Check(
    name="signals",
    verifies="`forward` and `predict` read every signal that is asked for; a warning where they do not",
    matters="an unused signal costs time at every step, and a signal of the teacher also space in the bank",
    mend="remove it from `signals`, or set `teacher_signals` if less is needed of the teacher",
    run=_signals_read,
    needs=("terms",),
)


PREDICT = Check(
    name="predict",
    verifies="where `predict` is overridden, it gives B x classes, uses nothing but the `deployed` modules, and "
    "in eval mode its logits of a sample are always the same, also next to other samples",
    matters="a module that is not deployed is neither averaged nor saved with the student, so the student "
    "predicts differently later; users cannot predict with the other test samples",
    mend="name every module that `predict` uses in `deployed`, and use no bare parameter in it; use modules for "
    "dropout and batch normalisation, because these respect eval mode",
    run=_predict,
    needs=("terms",),
)


CARD = Check(
    name="card",
    verifies="the docstrings and attributes describe the paper, the equation, the shapes, every signal and every "
    "parameter",
    matters="readers of a board want to know what was run, and people who port the method what it computes",
    mend="fill in `paper = Paper(...)`, or write a line `Paper:` if there is no paper; write `Loss:` and the "
    "equation, and shapes as `B x C x H x W`, into the docstring of the class or of its loss function; give each "
    "`param` its help",
    run=_card,
)


EXAMPLES = Check(
    name="examples",
    verifies="the examples in the docstrings of its module run, those of the module itself, of helper classes and of "
    "private names among them, and those of the modules of its package that it takes classes and functions from; a "
    "warning where there are none",
    matters="a failing example is worse than no example",
    mend="correct it; write examples as in a Python session, with `>>>`, and verify them by hand",
    run=_examples,
)
