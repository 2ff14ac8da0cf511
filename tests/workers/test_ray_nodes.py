"""A Ray cluster of several nodes, one of which is lost in mid-cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_bench import kdzoo, outcomes

pytestmark = pytest.mark.exhaustive

pytest.importorskip("ray", reason="needs the extra kdzoo[ray]")

STORE_BYTES = 80 * 2**20


def test_a_lost_node_costs_an_epoch_of_its_cells(small: tuple[Any, ...], node_folder: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    deaths = node_folder / "deaths"
    arguments = (*small, "--seeds", 1, "--strategies", "doomed")
    assert kdzoo(*arguments, "--out", "whole").code == 0
    deaths.write_text("node")
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        result = kdzoo(*arguments, "--out", "runs", "--executor", "ray", "--address", cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert result.code == 0, result.err
    assert deaths.read_text() == ""
    assert "its Ray node was lost" in result.err
    assert outcomes(Path("runs")) == outcomes(Path("whole"))
