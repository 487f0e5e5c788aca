"""The ranges of a search space as Optuna's distributions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autorank.spec import MethodSpec

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution


def distributions(entry: MethodSpec) -> dict[str, BaseDistribution]:
    """Return the distribution of each range of a method's space, from which the sampler draws.

    Args:
        entry: The method and its space.

    Returns:
        Setting -> its distribution.
    """
    from optuna.distributions import CategoricalDistribution

    return {
        name: CategoricalDistribution(values["choices"]) if "choices" in values else number_distribution(values)
        for name, values in entry.space.items()
    }


def number_distribution(values: Mapping[str, Any]) -> FloatDistribution | IntDistribution:
    """Return the distribution of a range of numbers.

    Args:
        values: The range: `type`, `low`, `high`, and optionally `log` and `step`.

    Returns:
        The distribution; its `high` is the last step, computed with decimals.
    """
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, log, step = values["low"], values["high"], values.get("log", False), values.get("step")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a step that does not end at `high`
        if values["type"] == "int":
            return IntDistribution(low, high, log=log, step=step or 1)
        return FloatDistribution(low, high, log=log, step=step)
