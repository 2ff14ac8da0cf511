from __future__ import annotations

import pytest

from kdzoo import Dataset, Splits, Strategy, UsageError
from kdzoo.plugins import Plugin
from kdzoo.registry import Registry


class One(Strategy):
    name = "one"


class OtherOne(Strategy):
    name = "one"


class Data(Dataset):
    name = "points"
    img_size = (8, 8)

    def load(self, data_dir: object, download: bool) -> Splits:
        raise UsageError("there are no points")


class OtherData(Data):
    pass


def test_finds_strategies_and_datasets_with_their_origin() -> None:
    data = Data()
    registry = Registry([Plugin("p", "pack", "1.2", [One], [data])])
    entry = registry.strategy("one")
    assert (entry.name, entry.value, entry.plugin.version) == ("one", One, "1.2")
    assert registry.strategy("pack:one") == entry
    assert registry.dataset("points").value is data
    assert registry.find_dataset("pack:points") is data


def test_an_unknown_name_is_told_with_the_closest() -> None:
    registry = Registry([Plugin("p", "pack", "1", [One], [Data()])])
    with pytest.raises(UsageError, match=r"^unknown strategy 'on'; did you mean one\?$"):
        registry.strategy("on")
    with pytest.raises(UsageError, match=r"^unknown strategy 'pak:one'; did you mean pack:one\?$"):
        registry.strategy("pak:one")
    with pytest.raises(UsageError, match=r"^unknown dataset 'point'; did you mean points\?$"):
        registry.find_dataset("point")


def test_a_clash_of_datasets_is_told_as_well() -> None:
    registry = Registry([Plugin("a", "left", "1", [], [Data()]), Plugin("b", "right", "1", [], [OtherData()])])
    with pytest.raises(
        UsageError, match="dataset 'points' is brought by left and right; choose one, for example left:"
    ):
        registry.dataset("points")
    assert isinstance(registry.find_dataset("right:points"), OtherData)


def test_one_distribution_that_brings_a_name_twice_is_told_by_its_plugins() -> None:
    registry = Registry([Plugin("a", "pack", "1", [One]), Plugin("b", "pack", "1", [OtherOne])])
    with pytest.raises(UsageError, match=r"strategy 'one' is brought twice by pack \(plugins a and b\); rename one"):
        registry.strategy("one")
