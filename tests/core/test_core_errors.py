from __future__ import annotations

import pytest

from kdzoo import KdzooError, PairError, UsageError
from kdzoo.errors import unknown


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("sotf", ["soft", "at"], "unknown thing 'sotf'; did you mean soft?"),
        ("resnt", ["resnet", "resnets", "vit"], "unknown thing 'resnt'; did you mean resnet or resnets?"),
        ("zz", ["b", "a", "b"], "unknown thing 'zz'; known: a, b"),
        ("zz", [], "unknown thing 'zz'; known: none"),
        ("zz", map(str, range(1300)), "unknown thing 'zz'; none of the 1,300 known ones is close to it"),
    ],
)
def test_an_unknown_name_is_told_with_the_closest(name: str, known: list[str], sentence: str) -> None:
    assert unknown("thing", name, known) == sentence


def test_what_a_person_can_mend_is_told_apart_from_bugs() -> None:
    assert issubclass(UsageError, KdzooError)
    assert issubclass(PairError, KdzooError)
    assert not issubclass(KdzooError, (ValueError, TypeError, OSError))
