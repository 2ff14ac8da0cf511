"""The check that the examples in the docstrings run."""

from __future__ import annotations

import doctest
import inspect
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from types import ModuleType

from kdzoo.strategy import Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, warned
from kdzoo.testing.subject import Subject, parts_of


def _examples(subject: Subject) -> Verdict:
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


EXAMPLES = Check(
    name="examples",
    verifies="the examples in the docstrings of its module run, those of the module itself, of helper classes and of "
    "private names among them, and those of the modules of its package that it takes classes and functions from; a "
    "warning where there are none",
    matters="an example that fails is worse than none",
    mend="correct it; write examples as in a Python session, with `>>>`, and check them by hand",
    run=_examples,
)
