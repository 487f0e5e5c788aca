"""How a machine is shared between trials."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.search.resources import Resources, local, share


@pytest.mark.parametrize(
    ("available", "asked", "expected"),
    [
        ({"CPU": 2}, {}, Resources(2, 1, 0)),
        ({"CPU": 8}, {}, Resources(4, 2, 0)),
        ({"CPU": 64}, {}, Resources(16, 4, 0)),
        ({"CPU": 16}, {}, Resources(4, 4, 0)),
        ({"CPU": 16}, {"concurrency": 3}, Resources(3, 5, 0)),
        ({"CPU": 16, "GPU": 2}, {}, Resources(2, 8, 1)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.25}, Resources(8, 2, 0.25)),
        ({"CPU": 4, "GPU": 2}, {"gpus_per_trial": 0.25}, Resources(4, 1, 0.25)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0}, Resources(4, 4, 0)),
        ({"CPU": 16, "GPU": 5}, {"gpus_per_trial": 2}, Resources(2, 8, 2)),
        ({"CPU": 16}, {"workers": 2}, Resources(4, 2, 0, 2)),
        ({"CPU": 16, "GPU": 4}, {"workers": 2}, Resources(2, 4, 1, 2)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 1, "workers": 2}, Resources(2, 4, 0.5, 2)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.4}, Resources(4, 4, 0.4)),  # two on each, not five on both
    ],
)
def test_share(available, asked, expected):
    assert share(available, **asked) == expected


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"gpus_per_trial": 2}, "--gpus-per-trial 2 is more than the 1 GPUs"),
        ({"gpus_per_trial": 0.5, "concurrency": 3}, "1 GPUs at 0.5 a trial have room for 2 trials"),
        ({"workers": 2}, "--workers-per-trial 2 with a GPU each, 2 is more than the 1 GPUs"),
        ({"gpus_per_trial": 0, "workers": 9}, "8 CPUs have room for 0 trials of 9 workers"),
        ({"gpus_per_trial": 0, "concurrency": 9}, "8 CPUs have room for 8 trials"),
    ],
)
def test_more_than_there_is(asked, problem):
    with pytest.raises(AutorankError, match=problem):
        share({"CPU": 8, "GPU": 1}, **asked)


def test_this_machine():
    assert local()["CPU"] >= 1
    assert str(Resources(1, 2, 0)) == "1 trial at once, 2 CPUs each"
    assert str(Resources(4, 1, 0.5)) == "4 trials at once, 1 CPU, 0.5 GPU each"
