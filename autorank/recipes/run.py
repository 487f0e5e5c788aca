"""Runs a recipe: each row with each seed is one training, in the warm actors that searches use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from autorank import tasks
from autorank.errors import AutorankError, explain
from autorank.recipes.recipe_searcher import RecipeSearcher, Training
from autorank.recipes.results import RecipeRun, Results
from autorank.recipes.rows import Row, chosen, rows
from autorank.recipes.scale import scaled
from autorank.recipes.schema import Recipe
from autorank.searching.budget import Budget
from autorank.searching.ray import resources
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.searching.ray.cluster import connection
from autorank.searching.ray.ray_watch import RayWatch
from autorank.searching.ray.shared_storage_check import keep_mount_token
from autorank.searching.ray.tune_callback import Interrupt, TuneCallback
from autorank.searching.ray.tune_run import fit
from autorank.spec import TrainingSpec, TrainSpec

logger = logging.getLogger(__name__)

Ending = Literal["complete", "time budget", "interrupted"]


def plan(
    recipe: Recipe, pattern: str | None = None, seeds: int | None = None, scale: float = 1.0,
    model: str | None = None, data: Path | None = None, training: Mapping[str, Any] | None = None,
) -> list[Training]:  # fmt: skip
    """Return the trainings, task by task and seed by seed; rows whose ranks others use come first.

    Args:
        recipe: The recipe.
        pattern: The rows, see `autorank.recipes.rows.chosen`; rows whose ranks they use are added.
        seeds: Number of seeds. None: the recipe's.
        scale: Fraction of examples and epochs.
        model: Base model in place of the recipe's.
        data: Directory with one directory per task. None: the Hub.
        training: Fields of `TrainingSpec` in place of the recipe's.

    Returns:
        The trainings.

    Raises:
        AutorankError: No row is to be run, or the data is not available.
    """
    by_name = {row.name: row for row in rows(recipe, model, data)}
    names = set(chosen(list(by_name), pattern))
    names |= {source for name in names if (source := by_name[name].ranks_of)}
    selected = [row for name, row in by_name.items() if name in names and row.train is not None]
    if not selected:
        raise AutorankError("The rows are only reported, not run (`not_run` in the recipe). Choose other --rows.")
    selected.sort(key=lambda row: row.ranks_of is not None)
    selected.sort(key=lambda row: recipe.tasks.index(row.task))
    specs = {row.name: _changed(row, training or {}, scale) for row in selected}
    return [
        Training(
            RecipeRun(row.name, seed),
            specs[row.name].changed(training={"seed": seed}),
            RecipeRun(row.ranks_of, seed) if row.ranks_of else None,
        )
        for row in selected
        for seed in recipe.seed_list(seeds)
    ]


def run_identity(
    recipe: Recipe, scale: float, model: str | None, data: Path | None, precision: str | None = None
) -> dict[str, Any]:
    """Return the first line of the results, which identifies a run of a recipe.

    Args:
        recipe: The recipe.
        scale: Fraction of examples and epochs.
        model: Base model in place of the recipe's.
        data: Directory of the data. None: the Hub.
        precision: Precision in place of the recipe's.

    Returns:
        The values of the line.
    """
    is_recipes = precision == recipe.training.get("precision", "auto")
    return {
        "recipe": recipe.model_dump(mode="json"),
        "scale": scale,
        "model": model,
        "data": None if data is None else str(data),
        "precision": None if is_recipes else precision,
    }


def check(trainings: Sequence[Training]) -> None:
    """Load the data of all trainings into the cache, so that mistakes are reported before anything starts.

    Args:
        trainings: The trainings.

    Raises:
        AutorankError: Lists all data and models that are not available.
    """
    specs = {(entry.train.task, tasks.base_model(entry.train.task, entry.train.model)) for entry in trainings}
    problems: dict[str, None] = {}
    for task, model in sorted(specs, key=str):
        try:
            tasks.load(task, model)
        except AutorankError as error:
            problems[str(error)] = None
    if problems:
        raise AutorankError("\n".join(problems))


def run(
    trainings: Sequence[Training], results: Results, budget: Budget,
    on_result: Callable[[RecipeRun, dict[str, Any]], object] = lambda run, outcome: None,
) -> Ending:  # fmt: skip
    """Run the trainings that have not ended. After Ctrl-C the same call continues each from its last evaluation.

    Args:
        trainings: The trainings.
        results: The file of results.
        budget: The budget; its trials are ignored.
        on_result: Called with each result.

    Returns:
        How the run ended.

    Raises:
        AutorankError: The data is not available, or the resources do not suffice.
    """
    remaining = [training for training in trainings if not results.done(training.run)]
    if not remaining:
        return "complete"
    if not budget.on_cluster:
        budget.share(resources.this_machine())
    check(remaining)
    ended: set[RecipeRun] = set()

    def record(run: RecipeRun, outcome: dict[str, Any]) -> None:
        ended.add(run)
        on_result(run, outcome)

    searcher = RecipeSearcher(remaining, results, budget.deadline, budget.retries, record)
    folder = results.folder
    try:
        with (
            connection.running(budget.address, folder / connection.LOG),
            Interrupt() as interrupt,
            keep_mount_token(folder) if budget.on_cluster else contextlib.nullcontext() as mount_token,
        ):
            resources_per_trial = budget.share(resources.cluster_nodes())
            with RayWatch(resources_per_trial, logger.warning) as watch:
                fit(
                    searcher,
                    TuneCallback(searcher, interrupt, watch),
                    bind(WarmTrial, folder=folder, mount_token=mount_token),
                    resources_per_trial,
                    folder,
                )
            if interrupt.requested:
                return "interrupted"
    except KeyboardInterrupt:  # while Ray starts, or the second one
        return "interrupted"
    return "complete" if all(training.run in ended for training in remaining) else "time budget"


def _changed(row: Row, training: Mapping[str, Any], scale: float) -> TrainSpec:
    assert row.train is not None
    values = row.train.training.model_dump() | dict(training)
    try:
        changed = TrainingSpec.model_validate(values)
    except ValidationError as error:
        raise explain(error, f"The training of {row.name}") from None
    return scaled(row.train.model_copy(update={"training": changed}), scale)
