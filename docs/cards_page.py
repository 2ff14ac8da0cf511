"""The text of cards.md: every built-in strategy's card, as ``kdzoo strategies show`` prints it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from kdzoo.registry import Registry

INTRODUCTION = """\
# Cards of the built-in strategies

This page is made from the code by `python docs/generate.py`; a test compares the two. Change the docstrings in
`plugins/kdzoo_zoo`, not this page.

A card says where a strategy comes from, what it compares, its loss, what it costs, where it differs from its paper, and
what its parameters mean. `kdzoo strategies show NAME` prints the card of any strategy, those of plugins and
[combinations](combinations.md) included, and with `--code` its source. What to write into one's own is in
[writing a strategy](strategies.md#what-a-card-says). The losses alone, as functions of tensors, are in
`kdzoo_zoo.functional`.
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
        parts += [f"### {entry.name}\n\n{shown(f'kdzoo strategies show {entry.name}')}" for entry in entries]
    return "\n".join(parts)
