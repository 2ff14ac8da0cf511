"""The text of cards.md: every built-in strategy's card, as ``kdzoo strategies show`` prints it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from checked import checked_text

from kdzoo.registry import Registry

INTRODUCTION = """\
# Cards of the built-in strategies

A card describes a strategy: its source, what it compares, its loss, its cost, its differences from the paper, and its
parameters. `kdzoo strategies show NAME` prints the card of any strategy, also of plugins and
[combinations](combinations.md); `--code` adds its source. For your own card, see
[writing a strategy](strategies.md#what-a-card-says). The losses alone, as functions of tensors, are in
`kdzoo_zoo.functional`.

Most cards end with what was checked: by the [conformance kit](conformance.md), by tests that compare values and
gradients with loops written from the equation, and, where given, by one training of five epochs on digits. One training
of one seed shows that the strategy runs, not how good it is. `docs/checked.py` fills that in.

`python docs/generate.py` makes this page from the code, and a test compares the two. Edit the docstrings in
`plugins/kdzoo_zoo`, not this page.
"""


def cards_page(shown: Callable[[str], str]) -> str:
    """The whole page, family by family.

    Args:
        shown: gives a command and what it prints, as a fenced block.
    """
    built_in = [entry for entry in Registry.load().strategies if entry.plugin.distribution == "kdzoo"]
    ordered = sorted(built_in, key=lambda entry: (entry.value.family, entry.name))
    parts = [INTRODUCTION]
    for family, entries in groupby(ordered, key=lambda entry: entry.value.family):
        parts.append(f"## {family.capitalize()}\n")
        for entry in entries:
            parts.append(f"### {entry.name}\n\n{shown(f'kdzoo strategies show {entry.name}')}")
            parts += [f"{text}\n"] if (text := checked_text(entry)) else []
    return "\n".join(parts)
