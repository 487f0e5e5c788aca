"""A recipe: the rows of a paper's table with their settings and reported figures, read from YAML and checked.

A value is one for all tasks, or a mapping task -> value, a column of the paper's table. Of the places that give a
setting the later one counts: the recipe's `assumed`, its `training` and `settings`, the method's `assumed`, its own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator

from autorank.errors import AutorankError, unknown
from autorank.spec import Spec, explain

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "papers", PACKAGE.parent / "examples" / "papers")  # installed; a checkout
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


KEYS = {name for block in (Recipe, Block, Assumed, Reported) for name in block.model_fields}


def read(file: Path) -> Recipe:
    """The recipe in a file, or the one of that name that comes with autorank.

    Raises:
        AutorankError: it cannot be read or is not valid, or what it names is not installed; all mistakes at once.
    """
    from autorank.recipes.rows import mistakes

    there = shipped()
    if not file.exists() and file.name in there:
        file = there[file.name]
    elif not file.exists() and not file.suffix:
        raise unknown("recipe", file.name, there)
    recipe = parse(file)
    if found := mistakes(recipe):
        raise AutorankError(f"The recipe {file} is not valid:\n" + "\n".join(f"  {each}" for each in found))
    return recipe


def parse(file: Path) -> Recipe:
    """The recipe in a file, its form checked, but not whether there is what it names."""
    from autorank.searching.space.space import Yaml

    try:
        return Recipe.model_validate(yaml.load(file.read_text(encoding="utf-8"), Yaml))
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(
            f"The recipe {file} cannot be read: {getattr(error, 'strerror', None) or error}. "
            "`autorank papers` lists those that come with autorank."
        ) from error
    except yaml.YAMLError as error:
        raise AutorankError(f"The recipe {file} is not YAML: {error}") from error
    except ValidationError as error:
        raise explain(error, f"The recipe {file}", KEYS) from None


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes that come with autorank."""
    return {file.stem: file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))}


def chosen(rows: Sequence[str], pattern: str | None) -> list[str]:
    """The rows (`LINE/TASK`) that a pattern names: `increlora/*`, or several: `lora/rte,*/mrpc`; None: all.

    Raises:
        AutorankError: a part of it names none; the nearest is suggested.
    """
    if pattern is None:
        return list(rows)
    parts = [part.strip() for part in pattern.split(",")]
    for part in parts:
        if not any(fnmatchcase(row, part) for row in rows):
            lines, tasks = (list(dict.fromkeys(names)) for names in zip(*(row.split("/") for row in rows), strict=True))
            line, _, task = part.partition("/")
            near = f"{_nearest(line, lines)}/{_nearest(task or '*', tasks)}"
            hint = f"Did you mean {near!r}? " if any(fnmatchcase(row, near) for row in rows) else ""
            raise AutorankError(
                f"--rows {part} names no row. {hint}There are {len(rows)}, LINE/TASK, with the lines "
                f"{', '.join(lines)} and the tasks {', '.join(tasks)}."
            )
    return [row for row in rows if any(fnmatchcase(row, part) for part in parts)]


def _nearest(name: str, known: Sequence[str]) -> str:
    """The name, if it is a pattern of any that is known, or else the nearest; empty if none is near."""
    if any(fnmatchcase(each, name) for each in known):
        return name
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")


def figure(printed: Any) -> tuple[float, float | None]:
    """`90.93 ± 0.04` as numbers."""
    found = FIGURE.match(str(printed))
    assert found
    return float(found[1]), None if found[2] is None else float(found[2])


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [] if value is None else [value]
