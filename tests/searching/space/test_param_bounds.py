"""The smallest and the largest adapter of a space, against all corners and in spaces with too many of them."""

from __future__ import annotations

import itertools

import pytest

from autorank.methods import names
from autorank.searching.space import ranges, space
from autorank.searching.space.param_bounds import (
    ParamBounds,
    largest,
    parameter_range,
    size_determining_settings,
    smallest,
)
from autorank.spec import MethodSpec, SearchSpec, TaskSpec

SIZES = ParamBounds(TaskSpec(name="demo"), None)
NUMBER = {"type": "int", "low": 1, "high": 4}


def built_in_space(method: str) -> MethodSpec:
    built_in = space.load(method)
    return MethodSpec(method=method, settings=built_in.fixed, space=built_in.ranges)


@pytest.mark.parametrize("method", names())
def test_smallest_and_largest_of_each_built_in_space_are_those_of_all_corners(method: str) -> None:
    entry = built_in_space(method)
    ends = [ranges.ends(values) for values in entry.space.values()]
    corners = [dict(zip(entry.space, values, strict=True)) for values in itertools.product(*ends)]
    sizes = [SIZES(method, entry.settings | corner) for corner in corners]
    expected = min(low for low, _ in sizes), max(high for _, high in sizes)
    assert SIZES(method, smallest(entry, SIZES))[0] == expected[0]
    assert SIZES(method, largest(entry, SIZES))[1] == expected[1]
    spec = SearchSpec(name="s", task=TaskSpec(name="demo"), methods=(entry,))
    assert parameter_range(spec, SIZES) == expected


@pytest.mark.parametrize("size", [min, max, lambda *values: values[0] * values[1] - values[2]])
def test_smallest_and_largest_when_no_single_setting_changes_the_size(size) -> None:
    """The minimum of several settings changes only if all of them do."""
    entry = MethodSpec(method="lora", space={name: NUMBER for name in "abc"})

    def bounds(method, settings):
        value = size(*(settings[name] for name in "abc"))
        return value, value

    sizes = [size(*values) for values in itertools.product([1, 4], repeat=3)]
    assert bounds("lora", smallest(entry, bounds))[0] == min(sizes)
    assert bounds("lora", largest(entry, bounds))[1] == max(sizes)


def test_sixteen_ranges_need_few_evaluations_of_the_bounds() -> None:
    """Sixteen ranges have 65,536 corners."""
    calls = []

    def bounds(method, settings):
        calls.append(settings)
        return settings["s3"] * settings["s7"], 10 + settings["s3"]

    entry = MethodSpec(method="lora", space={f"s{i}": NUMBER for i in range(16)})
    assert size_determining_settings(entry, bounds, smallest(entry, bounds)) == {"s3": 1, "s7": 1}
    assert largest(entry, bounds)["s3"] == 4
    assert len(calls) < 300
