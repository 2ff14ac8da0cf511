"""What is told where Ray is not installed, or no cluster answers, or its flags are given without it."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from toy_bench import kdzoo

from kdzoo.bench.executors.ray import no_room


def test_a_missing_extra_is_one_sentence(small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = kdzoo(*small, "--strategies", "nudge", "--executor", "ray")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        "error: --executor ray needs Ray, which is not installed: pip install 'kdzoo[ray]'"
    )
    assert "Traceback" not in result.err


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nobody_listens_is_one_sentence(form: str, small: tuple[Any, ...]) -> None:
    pytest.importorskip("ray", reason="needs the extra kdzoo[ray]")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and not listened at
        address = form.format(closed.getsockname()[1])
        result = kdzoo(*small, "--strategies", "nudge", "--executor", "ray", "--address", address)
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith(f"error: no Ray cluster answers at {address} (")
    assert "start a cluster with `ray start --head`, or leave out --address" in result.err


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("--address", "auto"), "address belongs to a cluster: give the executor ray too"),
        (("--no-shared-store",), "shared_store belongs to a cluster: give the executor ray too"),
        (("--cpus-per-cell", 2), "cpus_per_cell belongs to a cluster: give the executor ray too"),
        (("--executor", "slurm"), "--executor must be 'local', 'ray' or 'command', not 'slurm'"),
        (("--executor", "ray", "--gpus-per-cell", -1), "--gpus-per-cell must be at least 0, not -1"),
        (("--workers", 0), "--workers must be a number from 1 to 9999, or auto, not '0'"),
        (("--workers", "many"), "--workers must be a number from 1 to 9999, or auto, not 'many'"),
    ],
)
def test_wrong_use_is_one_line(extra: tuple[Any, ...], told: str, small: tuple[Any, ...]) -> None:
    result = kdzoo(*small, "--strategies", "nudge", *extra)
    assert result.code == 2
    assert told in result.err
    assert result.err.count("\n") == 1


def test_a_cell_that_no_node_has_room_for_is_told() -> None:
    nodes = [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}]
    assert no_room(nodes, 2, 0) == no_room(nodes, 1, 0.5) == ""
    assert no_room(nodes, 2, 1).startswith("waiting for a node with 2 CPUs and 1 GPUs: ")
    assert no_room([], 1, 0)
