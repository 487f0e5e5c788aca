"""The number of lanes chosen by throughput: found by doubling, and stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.searching.ray.actors import lane_count
from autorank.searching.ray.actors.lane_count import MAX_LANES, fastest_lane_count, throughput
from autorank.spec import TrainSpec
from autorank.training.packing.lane import Lane
from autorank.training.packing.pack import Pack
from tests.trainables import conformance_runs


@pytest.mark.parametrize(
    ("rates", "lanes"),
    [
        ({1: 10.0, 2: 10.9}, 1),  # grows by less than a tenth
        ({1: 10.0, 2: 19.0, 4: 25.0, 8: 26.0}, 4),
        ({1: 10.0, 2: 19.0, 4: None}, 2),  # does not fit in memory
        ({1: None}, 1),
        ({count: float(count) for count in (1, 2, 4, 8, 16, 32, 64)}, MAX_LANES),
    ],
)
def test_lanes_are_doubled_while_it_pays_off(rates: dict[int, float | None], lanes: int) -> None:
    assert fastest_lane_count(rates.__getitem__) == lanes


def spec(workspace: Path, method: str = "lora", **training: Any) -> TrainSpec:
    return conformance_runs.spec(workspace, method, model="plain", **{"steps": 20} | training)


def test_the_rate_counts_the_steps_of_all_lanes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "_timed", lambda pack: pack.step() or 0.5)
    assert throughput(spec(workspace), conformance_runs.cache(), 2) == 4.0
    assert throughput(spec(workspace, steps=2), conformance_runs.cache(), 1) == 2.0  # a run of few steps
    assert throughput(spec(workspace, "bitfit"), conformance_runs.cache(), 1) is None


def test_lanes_that_do_not_fit_in_memory(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original_pass = Pack._pass

    def limited(pack: Pack, lanes: list[Lane], number: int) -> None:
        if len(lanes) > 2:
            raise torch.OutOfMemoryError
        original_pass(pack, lanes, number)

    monkeypatch.setattr(Pack, "_pass", limited)
    monkeypatch.setattr(lane_count, "_timed", lambda pack: pack.step() or 0.5)
    assert [throughput(spec(workspace), conformance_runs.cache(), lanes) for lanes in (2, 3)] == [4.0, None]


def test_the_number_is_stored(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same trial on the same device."""
    measured: list[int] = []

    def rate(train: TrainSpec, model_cache: Any, lanes: int) -> float:
        measured.append(lanes)
        return 10.0

    monkeypatch.setattr(lane_count, "throughput", rate)
    cache, device = conformance_runs.cache(tmp_path), ("a GPU", 1)
    assert [lane_count.lane_count(spec(workspace), cache, device) for _ in range(2)] == [1, 1]
    assert measured == [1, 2]
    lane_count.lane_count(spec(workspace), cache, ("another GPU", 1))
    lane_count.lane_count(spec(workspace, batch_size=4), cache, device)
    assert measured == [1, 2] * 3
