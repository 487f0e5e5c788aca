"""A recipe at work: every row with every seed is one training, in the warm actors that searches use."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from autorank import tasks
from autorank.errors import AutorankError
from autorank.recipes.recipe_searcher import RecipeSearcher, Training
from autorank.recipes.results import Results, Run
from autorank.recipes.rows import Row, chosen, rows
from autorank.recipes.scale import scaled
from autorank.recipes.schema import Recipe
from autorank.searching.budget import Budget
from autorank.searching.ray import cluster, resources, shared_storage_check
from autorank.searching.ray.trainable import WarmTrial, bind
from autorank.searching.ray.tune_callback import Interrupt, Watch
from autorank.searching.tune_session import fit
from autorank.spec import TrainingSpec, TrainSpec, explain

Ending = Literal["complete", "time budget", "interrupted"]


def plan(
    recipe: Recipe, pattern: str | None = None, seeds: int | None = None, scale: float = 1.0,
    model: str | None = None, data: Path | None = None, training: Mapping[str, Any] | None = None,
) -> list[Training]:  # fmt: skip
    """The trainings, task by task and seed by seed, those first whose ranks others take.

    Args:
        pattern: the rows, as `recipe.chosen` has them; those whose ranks they take come along.
        training: of `TrainingSpec`, in place of the recipe's.

    Raises:
        AutorankError: nothing is left to run, or the data cannot be had.
    """
    every = {row.name: row for row in rows(recipe, model, data)}
    names = set(chosen(list(every), pattern))
    names |= {source for name in names if (source := every[name].ranks_of)}
    wanted = [row for name, row in every.items() if name in names and row.train is not None]
    if not wanted:
        raise AutorankError("There is nothing to run: the rows are only reported, as the recipe says (not_run).")
    wanted.sort(key=lambda row: row.ranks_of is not None)
    wanted.sort(key=lambda row: recipe.tasks.index(row.task))
    small = {row.name: _changed(row, training or {}, scale) for row in wanted}
    return [
        Training((row.name, seed), _seeded(small[row.name], seed), (row.ranks_of, seed) if row.ranks_of else None)
        for row in wanted for seed in recipe.numbers(seeds)
    ]  # fmt: skip


def about(
    recipe: Recipe, scale: float, model: str | None, data: Path | None, precision: str | None = None
) -> dict[str, Any]:
    """What tells runs of recipes apart: the first line of their results. `precision`: in place of the recipe's."""
    place = None if data is None else str(data)
    own = precision == recipe.training.get("precision", "auto")
    return {
        "recipe": recipe.model_dump(mode="json"), "scale": scale, "model": model, "data": place,
        "precision": None if own else precision,
    }  # fmt: skip


def check(trainings: Sequence[Training]) -> None:
    """Load what is to be learnt: trainings find it in the cache, and mistakes show before anything starts.

    Raises:
        AutorankError: names all data and models that cannot be had.
    """
    wanted = {(each.train.task, tasks.base_model(each.train.task, each.train.model)) for each in trainings}
    problems: dict[str, None] = {}
    for task, model in sorted(wanted, key=str):
        try:
            tasks.load(task, model)
        except AutorankError as error:
            problems[str(error)] = None
    if problems:
        raise AutorankError("\n".join(problems))


def run(
    trainings: Sequence[Training], results: Results, budget: Budget,
    told: Callable[[Run, dict[str, Any]], object] = lambda run, outcome: None,
) -> Ending:  # fmt: skip
    """Train what has not ended yet. Ctrl-C ends it; the same call goes on, each training from its last evaluation.

    Raises:
        AutorankError: the data cannot be had, or the resources do not suffice.
    """
    left = [each for each in trainings if not results.done(each.run)]
    if not left:
        return "complete"
    joined = budget.address is not None or "RAY_ADDRESS" in os.environ
    if not joined:
        budget.share(resources.local())
    check(left)
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    ended: set[tuple[str, int]] = set()

    def tell(run: Run, outcome: dict[str, Any]) -> None:
        ended.add(run)
        told(run, outcome)

    searcher = RecipeSearcher(left, results, deadline, budget.retries, tell)
    folder = results.folder
    try:
        with (
            cluster.running(budget.address, folder / cluster.LOG),
            Interrupt() as interrupt,
            shared_storage_check.shared(folder) if joined else contextlib.nullcontext() as seal,
        ):
            each = budget.share(resources.joined())
            fit(searcher, Watch(searcher, interrupt), bind(WarmTrial, folder=folder, seal=seal), each, folder)
            if interrupt.requested:
                return "interrupted"
    except KeyboardInterrupt:  # while Ray starts, or the second one
        return "interrupted"
    return "complete" if all(each.run in ended for each in left) else "time budget"


def _changed(row: Row, training: Mapping[str, Any], scale: float) -> TrainSpec:
    assert row.train is not None
    values = row.train.training.model_dump() | dict(training)
    try:
        changed = TrainingSpec.model_validate(values)
    except ValidationError as error:
        raise explain(error, f"The training of {row.name}") from None
    return scaled(row.train.model_copy(update={"training": changed}), scale)


def _seeded(train: TrainSpec, seed: int) -> TrainSpec:
    return train.model_copy(update={"training": train.training.model_copy(update={"seed": seed})})
