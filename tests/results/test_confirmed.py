"""What several seeds say of a front, against numbers worked out apart."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from autorank.results.confirmed import summarise
from autorank.results.front import Point, front
from tests.results.made_trials import trial


def points(*at: tuple[int, float]) -> list[Point]:
    return front([trial(number, point) for number, point in enumerate(at)])


def results(*scores: list[float]) -> dict[tuple[int, int, int], dict[str, Any]]:
    """Of trial i's evaluation at step 10, with seeds 0, 1, ..."""
    return {(i, 10, seed): {"score": score} for i, each in enumerate(scores) for seed, score in enumerate(each)}


def test_mean_and_standard_deviation() -> None:
    found = summarise(points((10, 0.7), (100, 0.8)), results([0.6, 0.7, 0.8], [0.81, 0.79, 0.8]))
    for key, scores in {(0, 10): [0.6, 0.7, 0.8], (1, 10): [0.81, 0.79, 0.8]}.items():
        assert found[key].mean == pytest.approx(statistics.fmean(scores))
        assert found[key].sd == pytest.approx(statistics.stdev(scores))
        assert found[key].seeds == 3
    assert str(found[0, 10]) == "0.7000 ± 0.1000"


def test_the_smallest_is_on_the_front_for_sure_and_a_clear_gap_too() -> None:
    found = summarise(points((10, 0.7), (100, 0.8)), results([0.60, 0.61, 0.62], [0.90, 0.91, 0.92]))
    assert found[0, 10].on_front == 1
    assert found[1, 10].on_front > 0.999


def test_equal_means_are_a_coin_toss() -> None:
    found = summarise(points((10, 0.7), (100, 0.8)), results([0.7, 0.8], [0.7, 0.8]))
    assert found[1, 10].on_front == pytest.approx(0.5, abs=0.02)


def test_the_probability_is_student_ts() -> None:
    """Difference of two means with the pooled variance and 4 degrees of freedom, by integrating the density of the
    difference of two independent t variables."""
    low, high = [0.70, 0.74, 0.78], [0.74, 0.78, 0.82]
    found = summarise(points((10, 0.7), (100, 0.8)), results(low, high))
    scale = math.sqrt((statistics.variance(low) + statistics.variance(high)) / 2 / 3)
    gap = (statistics.fmean(high) - statistics.fmean(low)) / scale

    def density(t: float) -> float:
        return math.gamma(2.5) / (math.sqrt(4 * math.pi) * math.gamma(2)) * (1 + t * t / 4) ** -2.5

    width = 0.02
    grid = [width * i for i in range(-2000, 2001)]
    below, total = [], 0.0
    for t in grid:
        total += density(t) * width
        below.append(total)
    at = lambda t: below[min(4000, max(0, round(t / width) + 2000))]  # noqa: E731
    expected = sum(density(t) * width * at(gap + t) for t in grid)
    assert found[1, 10].on_front == pytest.approx(expected, abs=0.01)


def test_one_seed_has_no_spread() -> None:
    found = summarise(points((10, 0.7), (100, 0.8)), results([0.7], [0.8]))
    assert found[0, 10].sd is None and found[1, 10].on_front is None
    assert str(found[1, 10]) == "0.8000"


def test_what_failed_or_is_not_on_the_front_does_not_count() -> None:
    known = {(0, 10, 0): {"failed": "out of memory"}, (0, 10, 1): {"score": math.nan}, (7, 10, 0): {"score": 0.9}}
    assert summarise(points((10, 0.7)), known) == {}
