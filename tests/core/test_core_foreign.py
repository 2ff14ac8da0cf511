"""Texts of other people's code are bounded, do nothing, and are always there."""

from __future__ import annotations

import sys

import pytest

from kdzoo.api import LONGEST_NAME, name_fault
from kdzoo.foreign import (
    MOST_OF_A_STORY,
    MOST_SHOWN,
    bounded,
    line,
    printable,
    sentence,
    some,
    story_of,
    text_of,
    visible,
)


def test_a_text_that_is_too_long_says_how_much_is_left_out() -> None:
    assert bounded("a" * MOST_SHOWN) == "a" * MOST_SHOWN
    assert bounded("a" * (MOST_SHOWN + 1234)) == "a" * MOST_SHOWN + "... (1,234 characters more)"


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x9b", "\ud800", "\u202e", "\u2066", "\u200b", "\ufeff"]
)
def test_no_character_acts(character: str) -> None:
    assert line(f"a{character}b").isprintable()
    assert line(f"a{character}b").encode() == visible(f"a{character}b").encode()
    line(f"a{character}b").encode("ascii")


def test_only_the_first_line_counts() -> None:
    for end in ("\n", "\r", "\u2028", "\x0b", "\x85"):
        assert line(f" first{end}second") == "first"
    assert line("\n" * 10_000_000 + "x") == "x"


class Odd:
    def __str__(self) -> str:
        raise KeyError("no")


class Fake(str):
    def strip(self, characters: str | None = None) -> str:
        raise SystemExit

    def __str__(self) -> str:
        return self


def test_a_text_that_cannot_be_made_is_told_so() -> None:
    assert text_of(Odd()) == "(its text cannot be made: KeyError)"
    assert type(text_of(Fake("plain"))) is str
    assert text_of(Fake("plain")) == "plain"


class NotedError(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise SystemExit("no notes")


def _caught(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_a_traceback_that_cannot_be_formatted_has_its_frames() -> None:
    told = story_of(_caught(NotedError("why")))
    assert told.startswith("Traceback (most recent call last):\n")
    assert "in _caught" in told
    assert "NotedError: why" in told


def test_a_long_traceback_keeps_both_ends() -> None:
    def deep(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        raise ValueError("\n".join(f"{number} is a line of many" for number in range(5000)))

    def deeper(levels: int) -> None:
        deep(levels)

    try:
        deep(3)
    except ValueError as error:
        told = story_of(error)
    assert len(told) < MOST_OF_A_STORY + 100
    assert told.startswith("Traceback")
    assert "characters more) ..." in told
    assert told.rstrip().endswith("4999 is a line of many")
    assert sentence(ValueError("x" * 10**7)).startswith("ValueError: xxx")
    assert sys.getrecursionlimit() > 100


def test_a_name_is_bounded() -> None:
    assert not name_fault("a" * LONGEST_NAME)
    assert name_fault("a" * 5000) == "has 5,000 characters, and may have 100"


def test_names_from_a_file_are_quoted_and_none_acts() -> None:
    assert some(["a", "b\x1b[2J", "c"], 2) == "'a', 'b\\x1b[2J' and 1 more"
    assert len(some(["a" * 10_000])) < 1_100


def test_a_printed_text_is_visible_and_cut_with_an_ellipsis() -> None:
    assert printable("a\nb", 4) == "a\\nb"
    assert printable("a\n" + "b" * 10, 6) == "a\\n..."
