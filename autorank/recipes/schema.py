"""A recipe: the rows of a paper's table with their settings and reported figures, read from YAML and checked.

A value is one for all tasks, or a mapping task -> value, a column of the paper's table. Of the places that give a
setting the later one counts: the recipe's `assumed`, its `training` and `settings`, the method's `assumed`, its own.
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
    """A value that the paper and its code do not give: ours, and why."""

    value: Any
    why: str


class Reported(Spec):
    """A paper's figures, as printed.

    `score`: task -> figure, or task -> metric -> figure; a figure is a number or `90.93 ± 0.04`, in percent. `average`:
    over the tasks.
    """

    params: str | dict[str, str] | None = None
    score: dict[str, Any] = Field(default_factory=dict)
    average: str | float | None = None

    @field_validator("score", "average")
    @classmethod
    def _figures(cls, value: Any) -> Any:
        for each in _leaves(value):
            if not FIGURE.match(str(each)):
                raise ValueError(f"{each!r} is no figure; write 90.93 or 90.93 ± 0.04")
        return value


class Block(Spec):
    """A line of the table: a method with its settings, on all of the recipe's tasks or some."""

    method: str | None = None  # None: the line's own name
    tasks: tuple[str, ...] | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    assumed: dict[str, Assumed] = Field(default_factory=dict)
    ranks_of: str | None = None  # another line: trained with the ranks that it ended with, task by task, seed by seed
    not_run: str | None = None  # why this line is only reported
    reported: Reported = Reported()


class Recipe(Spec):
    """A paper's table."""

    name: str = Field(pattern=NAME)
    title: str
    source: str  # the paper, its tables, and where the settings are from
    model: str
    tasks: tuple[str, ...] = Field(min_length=1)
    metric: dict[str, str] = Field(default_factory=dict)  # task -> the one reported, where it is not the task's score
    seeds: PositiveInt | tuple[int, ...] = 1
    training: dict[str, Any] = Field(default_factory=dict)  # options by their names: see `rows.TRAINING`
    settings: dict[str, Any] = Field(default_factory=dict)  # for the methods that have them
    assumed: dict[str, Assumed] = Field(default_factory=dict)
    methods: dict[str, Block] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _names(cls, value: dict[str, Block]) -> dict[str, Block]:
        if wrong := [name for name in value if not re.match(NAME, name)]:
            raise ValueError(f"{wrong[0]!r} is no name: use letters, digits, dots, dashes and underscores")
        return value

    def numbers(self, count: int | None = None) -> list[int]:
        """The seeds; `count` of them, where the recipe names fewer the next ones too."""
        seeds = self.assumed["seeds"].value if "seeds" in self.assumed else self.seeds
        listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if count is not None:
            listed = (listed + [max(listed) + 1 + i for i in range(count)])[:count]
        return listed

    def tasks_of(self, line: str) -> tuple[str, ...]:
        """The tasks of a line."""
        return self.methods[line].tasks or self.tasks


def figure(printed: Any) -> tuple[float, float | None]:
    """`90.93 ± 0.04` as numbers."""
    found = FIGURE.match(str(printed))
    assert found
    return float(found[1]), None if found[2] is None else float(found[2])


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [] if value is None else [value]
