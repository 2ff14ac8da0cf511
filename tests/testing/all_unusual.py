"""Every strategy that is right and unusual."""

from __future__ import annotations

import unusual
import unusual_features
from unusual import Unusual


def all_unusual() -> list[type[Unusual]]:
    """In the order of their files."""
    found = [each for home in (unusual, unusual_features) for each in vars(home).values() if isinstance(each, type)]
    return [each for each in dict.fromkeys(found) if issubclass(each, Unusual) and each is not Unusual]
