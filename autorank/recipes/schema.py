"""The schema of a recipe: the rows of a paper's table with their settings and reported scores.

A value holds for all tasks, or is a mapping task -> value, a column of the paper's table. A setting may be given in
several places. In ascending order of precedence: the recipe's `assumed`, `training` and `settings`, then those of the
line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from autorank.spec import Spec

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
FIGURE = re.compile(r"^(\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?$")


class Assumed(Spec):
    """A value that neither the paper nor its code gives: our choice, and the reason."""

    value: Any
    why: str


class Reported(Spec):
    """Figures of a paper, as printed.

    Attributes:
        params: Adapter parameters, for all tasks or by task.
        score: Task -> figure, or task -> metric -> figure. A figure is a number or `90.93 ± 0.04`, in percent.
        average: Average of the scores over the tasks.
    """

    params: str | dict[str, str] | None = None
    score: dict[str, Any] = Field(default_factory=dict)
    average: str | float | None = None

    @field_validator("score", "average")
    @classmethod
    def _figures(cls, value: Any) -> Any:
        for printed in _leaves(value):
            if not FIGURE.match(str(printed)):
                raise ValueError(f"{printed!r} is not a figure. Write 90.93 or 90.93 ± 0.04")
        return value


class LineSpec(Spec):
    """A line of the table: a method with its settings, on some or all tasks of the recipe.

    Attributes:
        method: The method. None: the line's name.
        tasks: The tasks. None: all of the recipe.
        training: Fields of `TrainingSpec`, and `max_length` and `max_eval_examples` of `TaskSpec`.
        settings: The method's settings.
        assumed: Settings that no source gives.
        ranks_of: Another line, whose final ranks this line is trained with, for each task and seed.
        not_run: Why this line is only reported.
        reported: The paper's figures.
    """

    method: str | None = None
    tasks: tuple[str, ...] | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    assumed: dict[str, Assumed] = Field(default_factory=dict)
    ranks_of: str | None = None
    not_run: str | None = None
    reported: Reported = Reported()


class Recipe(Spec):
    """A paper's table.

    Attributes:
        name: The recipe's name.
        title: What the table shows.
        source: The paper, its tables, and where the settings are from.
        model: The base model.
        tasks: The named tasks.
        metric: Task -> reported metric, where it is not the task's score.
        seeds: Number of seeds, or the seeds.
        training: Fields of `TrainingSpec`, and `max_length` and `max_eval_examples` of `TaskSpec`.
        settings: Settings, for the methods that have them.
        assumed: Settings that no source gives.
        methods: Line -> its method and settings.
    """

    name: str = Field(pattern=NAME)
    title: str
    source: str
    model: str
    tasks: tuple[str, ...] = Field(min_length=1)
    metric: dict[str, str] = Field(default_factory=dict)
    seeds: PositiveInt | tuple[int, ...] = 1
    training: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    assumed: dict[str, Assumed] = Field(default_factory=dict)
    methods: dict[str, LineSpec] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _names(cls, value: dict[str, LineSpec]) -> dict[str, LineSpec]:
        if wrong := [name for name in value if not re.match(NAME, name)]:
            raise ValueError(f"{wrong[0]!r} is not a valid name. Use letters, digits, dots, dashes and underscores")
        return value

    def seed_list(self, count: int | None = None) -> list[int]:
        """Return the seeds.

        Args:
            count: Number of seeds; if the recipe has fewer, the next integers are added. None: the recipe's.

        Returns:
            The seeds.
        """
        seeds = self.assumed["seeds"].value if "seeds" in self.assumed else self.seeds
        listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if count is not None:
            listed = (listed + [max(listed) + 1 + i for i in range(count)])[:count]
        return listed

    def tasks_of(self, line: str) -> tuple[str, ...]:
        """Return the tasks of a line."""
        return self.methods[line].tasks or self.tasks


def figure(printed: Any) -> tuple[float, float | None]:
    """Return the mean and the standard deviation, or None, of a figure such as `90.93 ± 0.04`."""
    match = FIGURE.match(str(printed))
    assert match
    return float(match[1]), None if match[2] is None else float(match[2])


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [] if value is None else [value]
