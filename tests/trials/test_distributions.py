"""Ranges of a search space as Optuna's distributions."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autorank.searching.space import ranges
from autorank.spec import MethodSpec
from autorank.trials.distributions import distributions

SPACE = {
    "rank": ({"type": "int", "low": 1, "high": 64, "log": True}, IntDistribution(1, 64, log=True)),
    "heads": ({"type": "int", "low": 1, "high": 10, "step": 4}, IntDistribution(1, 9, step=4)),
    "learning_rate": (
        {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
        FloatDistribution(1e-5, 1e-2, log=True),
    ),
    "dropout": ({"type": "float", "low": 0.0, "high": 0.9, "step": 0.25}, FloatDistribution(0.0, 0.75, step=0.25)),
    "targets": ({"choices": ["query", None]}, CategoricalDistribution(["query", None])),
}


def test_each_range_is_a_distribution() -> None:
    entry = MethodSpec(method="lora", space={name: values for name, (values, _) in SPACE.items()})
    assert distributions(entry) == {name: expected for name, (_, expected) in SPACE.items()}


@pytest.mark.parametrize(
    ("low", "high", "step", "last"), [(0.1, 1.0, 0.15, 1.0), (0.1, 1.1, 0.3, 1.0), (0.2, 1.65, 0.15, 1.55)]
)
def test_the_last_step_is_drawn_whatever_binary_fractions_add_up_to(
    low: float, high: float, step: float, last: float
) -> None:
    """0.1 + 6 * 0.15 is 0.9999999999999999."""
    values = {"type": "float", "low": low, "high": high, "step": step}
    (distribution,) = distributions(MethodSpec(method="lora", space={"dropout": values})).values()
    assert distribution == FloatDistribution(low, last, step=step) and ranges.ends(values) == [low, last]
