"""What published pages say of the built-in strategies is what these say of themselves."""

from __future__ import annotations

import inspect

from docs_pages import ROOT, tool

from kdzoo.leaderboard.summary import cards
from kdzoo.record import parse_record
from kdzoo.registry import Registry


def test_the_cards_of_published_pages_are_up_to_date() -> None:
    written = tool("leaderboard_cards")
    assert written.FILE.read_text(encoding="utf-8") == written.cards_text(), "run `python docs/leaderboard_cards.py`"


def test_a_built_in_strategy_is_told_with_its_paper() -> None:
    (path, *_) = sorted((ROOT / "leaderboards" / "records").glob("*/*--*/*.json"))
    record = parse_record(path.read_bytes(), path.name)
    name = record.cell.strategy.name
    kind = Registry.load().strategy(f"kdzoo:{name}").value
    text = cards([record])[name]
    assert text.startswith(" ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()))
    assert "revision 1 of the distribution kdzoo" in text
    if kind.paper:
        assert f"\n\nPaper: {kind.paper.authors}. {kind.paper.title}. " in text
    foreign = record.cell.strategy.model_copy(update={"distribution": "other"})
    stranger = record.model_copy(update={"cell": record.cell.model_copy(update={"strategy": foreign})})
    assert cards([stranger])[name].startswith("family ")
