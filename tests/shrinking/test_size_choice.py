"""The front of the sizes to which an adapter can be cut."""

from __future__ import annotations

import math

from autorank.shrinking.cutting import Size
from autorank.shrinking.size_choice import front_of, including


def test_the_front_has_the_sizes_that_no_smaller_one_equals() -> None:
    scores = [0.0, -0.1, math.nan, 0.5, 0.5, 0.7]  # Matthews' correlation of a constant prediction is 0
    sizes = [Size(100 * number, 1.0, None, score) for number, score in enumerate(scores, start=1)]
    front = front_of([*sizes, Size(700, 1.0, None)])
    assert [(point.adapter_params, point.score) for point in front] == [(100, 0.0), (400, 0.5), (600, 0.7)]
    assert sum(point.knee for point in front) == 1


def test_without_finite_scores_the_front_is_empty() -> None:
    assert front_of([Size(100, 1.0, None, math.nan), Size(200, 1.0, None)]) == []


def test_the_chosen_size_is_among_the_sizes_once_and_in_order() -> None:
    sizes = [Size(100, 0.5, None), Size(300, 1.0, None)]
    assert [size.adapter_params for size in including(sizes, Size(200, 0.7, None))] == [100, 200, 300]
    assert including(sizes, None) == sizes
    trained = Size(100, 0.5, None, 0.9)
    assert including(sizes, trained) == [trained, sizes[1]]
