from __future__ import annotations

from typing import Any

import pytest

from kdzoo import Param, Strategy, UsageError, param

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("spec", "right", "wrong"),
    [
        (Param(4.0, gt=0), [4.0, 1, 1e-9], [0, 0.0, -1, NAN, INF, -INF, True, "4", None, "hot"]),
        (Param(0.9, ge=0, le=1), [0, 1, 0.5], [-1e-9, 1.1, NAN]),
        (Param(0.5, ge=0, lt=1), [0, 0.999], [1, 1.0, -0.1]),
        (Param(1.0), [-5, 0.0, 1e300], [NAN, INF, "x", False]),
        (Param(0, ge=0), [0, 7], [-1, 1.0, 0.5, True, "1", None]),
        (Param(True), [True, False], [0, 1, "true", None]),
        (Param("mean", choices=("mean", "sum")), ["mean", "sum"], ["max", "", 1, None]),
        (Param("anything"), ["", "x"], [1, True, None]),
        (Param(2, choices=(1, 2, 4)), [1, 4], [3, 2.0, "2"]),
    ],
)
def test_checks_type_and_range(spec: Param, right: list[Any], wrong: list[Any]) -> None:
    for value in right:
        checked = spec.check("s.p", value)
        assert checked == value
        assert type(checked) is spec.type
    for value in wrong:
        with pytest.raises(UsageError, match=r"^s\.p must be .*, not "):
            spec.check("s.p", value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Param(4.0, gt=0), "a number above 0"),
        (Param(0.9, ge=0, le=1), "a number at least 0 and at most 1"),
        (Param(3, ge=1, lt=10), "a whole number at least 1 and below 10"),
        (Param(True), "true or false"),
        (Param("a", choices=("a", "b")), "one of a, b"),
        (Param("a"), "a text"),
    ],
)
def test_says_what_is_valid(spec: Param, words: str) -> None:
    assert spec.valid == words
    with pytest.raises(UsageError) as caught:
        spec.check("s.p", None)
    assert str(caught.value) == f"s.p must be {words}, not None"


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Param(-1.0, ge=0),
        lambda: Param(1.0, paper=2.0, le=1),
        lambda: Param(1.0, search=(0.0, 3.0), gt=0),
        lambda: Param("x", choices=("a", "b")),
        lambda: Param(3, search=(1.5, 4)),
    ],
)
def test_a_declaration_must_satisfy_itself(declare: Any) -> None:
    with pytest.raises(UsageError, match="default, paper, imagenet or search value must be"):
        declare()


def test_a_text_has_a_bound() -> None:
    """It stands in every record and on every board."""
    spec = Param("short")
    assert spec.check("mine.note", "x" * 1000) == "x" * 1000
    with pytest.raises(UsageError, match=r"mine\.note must have at most 1,000 characters, not 1,001"):
        spec.check("mine.note", "x" * 1001)
    with pytest.raises(UsageError) as caught:
        Param(1.0).check("mine.weight", "x" * 9999)
    assert len(str(caught.value)) < 200


class Warm(Strategy):
    temperature: float = param(4.0, "temperature", gt=0)
    alpha: float = param(0.5, "weight", ge=0)


class Fixed(Warm):
    temperature = 1.0


def test_what_a_class_sets_to_a_plain_value_is_fixed_in_it() -> None:
    assert list(Warm.hyperparameters()) == ["temperature", "alpha"]
    assert list(Fixed.hyperparameters()) == ["alpha"]
    assert Fixed.resolve({}) == {"alpha": 0.5}
    assert Fixed.temperature == 1.0
    with pytest.raises(UsageError, match="temperature"):
        Fixed.resolve({"temperature": 2.0})
