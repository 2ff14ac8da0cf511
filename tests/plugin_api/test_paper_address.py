"""Where a paper can be read."""

from __future__ import annotations

import pytest

from kdzoo import Paper


@pytest.mark.parametrize(
    ("identity", "address"),
    [
        ("1503.02531", "https://arxiv.org/abs/1503.02531"),
        ("10.1109/5.771073", "https://doi.org/10.1109/5.771073"),
        ("https://openreview.net/forum?id=ZzwDy_wiWv", "https://openreview.net/forum?id=ZzwDy_wiWv"),
    ],
)
def test_a_paper_is_found_by_its_number_or_its_address(identity: str, address: str) -> None:
    paper = Paper(title="", authors="", year=2021, venue="", id=identity)
    assert paper.address == address
