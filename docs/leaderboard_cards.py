"""Writes ``kdzoo/leaderboard/cards.json``: the description of each built-in strategy on published pages.

A page must come out the same on every machine, with or without torch, so it cannot ask the installed strategies. Run
``python docs/leaderboard_cards.py`` after a strategy's card or paper has changed.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from kdzoo.declarations import Paper
from kdzoo.registry import Registry
from kdzoo.strategy import Strategy

FILE = Path(__file__).parents[1] / "kdzoo" / "leaderboard" / "cards.json"
_KEPT = ("Knowledge:", "Loss:", "Differs from the paper:")


def cards_text() -> str:
    """The content of the file: name -> revision, what it does in paragraphs, and its paper."""
    cards = {
        entry.name: {"revision": entry.value.revision, "about": _about(entry.value), "paper": _paper(entry.value.paper)}
        for entry in Registry.load().strategies
        if entry.plugin.distribution == "kdzoo"
    }
    return json.dumps(cards, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _about(kind: type[Strategy]) -> list[str]:
    first, *others = (" ".join(part.split()) for part in (inspect.getdoc(kind) or "").split("\n\n"))
    return [first, *(part for part in others if part.startswith(_KEPT))]


def _paper(paper: Paper | None) -> str:
    if paper is None:
        return ""
    venue = paper.venue if str(paper.year) in paper.venue else f"{paper.venue}, {paper.year}"
    return f"{paper.authors}. {paper.title}. {venue}. {paper.address}"


if __name__ == "__main__":
    FILE.write_text(cards_text(), encoding="utf-8")
