"""Recipes run by warm trials in this process, as Tune runs them: interrupted, continued and compared."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.recipes.compare import as_csv, as_json, compared
from autorank.recipes.load import read
from autorank.recipes.recipe_searcher import RecipeSearcher, Training, run_directory
from autorank.recipes.results import FILE, Results
from autorank.recipes.run import plan, run_identity
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.searching.retry_policy import Death
from tests import tiny_models
from tests.recipes.small_recipe import recipe_file, rte_workspace
from tests.searching.searcher_driver import goes_on
from tests.trials.trial_factories import evaluation

pytestmark = pytest.mark.usefixtures("own_directories")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rte_workspace(tmp_path_factory.mktemp("recipes"), 120)


def drive(searcher: RecipeSearcher, folder: Path, trials: int = 99) -> int:
    """Runs Tune's loop with one actor, interrupted after `trials` trials; returns the number of ended trials."""
    actor, ended = None, 0
    while (config := searcher.suggest(str(ended))) != Searcher.FINISHED:
        assert isinstance(config, dict)
        if actor is None:
            actor = bind(WarmTrial, folder=folder)(config)
        else:
            assert actor.reset(config)
        while not (result := actor.train())["done"]:
            assert goes_on(searcher, str(ended), result)
            searcher.on_trial_result(str(ended), result)
            if ended == trials:
                actor.stop()
                return ended
        searcher.on_trial_complete(str(ended), result)
        assert searcher.problem is None
        ended += 1
    if actor is not None:
        actor.stop()
    return ended


def plan_trainings(recipe: Any, workspace: Path, pattern: str, seeds: int) -> list[Training]:
    return plan(recipe, pattern, seeds, 0.02, str(workspace / "model"), workspace / "data")


def test_a_papers_table_at_a_small_scale(workspace: Path, tmp_path: Path) -> None:
    recipe = read(Path("increlora-table1"))
    trainings = plan_trainings(recipe, workspace, "lora-2/rte,increlora-2/rte", 2)
    lines = ("lora-2", "increlora-2")
    assert [training.run for training in trainings] == [(f"{line}/rte", seed) for line in lines for seed in (0, 1)]
    increlora = trainings[-1].train
    # 2 of 120 examples in 1 of 50 epochs, and every 100th step of 0.02²: all below what is needed at least
    assert (increlora.task.max_train_examples, increlora.training.steps, increlora.settings["interval"]) == (64, 100, 1)
    ended: list[Any] = []
    header = run_identity(recipe, 0.02, str(workspace / "model"), workspace / "data")
    with Results.open(tmp_path, "tried", header) as results:
        with pytest.raises(AutorankError, match="is already running"):
            Results.open(tmp_path, "tried", header)
        searcher = RecipeSearcher(trainings, results, on_result=lambda run, outcome: ended.append(run))
        assert drive(searcher, results.folder, trials=1) == 1
        assert not run_directory(results.folder, trainings[0]).exists()
        assert run_directory(results.folder, trainings[1]).exists()
    with pytest.raises(AutorankError, match="scale"):
        Results.open(tmp_path, "tried", header | {"scale": 0.5})
    with (tmp_path / "tried" / FILE).open("a") as file:
        file.write('{"row": "lora-2/rte", "seed": 1, "cut o')  # a killed driver's
    with Results.open(tmp_path, "tried", header) as results:
        assert set(results.runs) == {("lora-2/rte", 0)}
        drive(RecipeSearcher(trainings, results, on_result=lambda run, outcome: ended.append(run)), results.folder)
    assert Counter(ended) == {training.run: 1 for training in trainings}
    stored = Results.read(tmp_path, "tried")
    assert stored.recipe == recipe and {run: len(stored.runs[run]["evaluations"]) for run in stored.runs} == {
        training.run: 4 for training in trainings
    }
    assert not list((tmp_path / "tried" / "trials").glob("*"))
    entries = {(e["line"], e["task"]): e for e in compared(recipe, stored.runs)}
    lora = entries["lora-2", "rte"]
    best = [max(e["score"] for e in stored.runs["lora-2/rte", seed]["evaluations"]) for seed in (0, 1)]
    assert lora["measured"] == pytest.approx(50 * sum(best)) and lora["seeds"] == 2 and lora["reported"] == 85.56
    per_layer = 4 * 2 * tiny_models.HIDDEN + 2 * (tiny_models.HIDDEN + 32)  # in + out of its six matrices
    assert lora["measured_params"] == 2 * tiny_models.LAYERS * per_layer and lora["reported_params"] == "0.33M"
    assert "learning_rate" in lora["assumed"] and entries["increlora-2", "rte"]["assumed"] == []
    assert entries["increlora-2", "mnli"]["measured"] is None and entries["increlora-2", "average"]["measured"] is None


def test_ranks_of_another_row(workspace: Path, tmp_path: Path) -> None:
    recipe = read(recipe_file(tmp_path))
    trainings = plan_trainings(recipe, workspace, "again/rte", 1)
    assert [training.run.row for training in trainings] == ["grown/rte", "again/rte"]  # what it needs comes along
    with Results.open(tmp_path, "ranks", run_identity(recipe, 0.02, None, None)) as results:
        drive(RecipeSearcher(trainings, results), results.folder)
        source, copied = results.runs["grown/rte", 0], results.runs["again/rte", 0]
    assert copied["ranks"] == source["ranks"] and len(set(source["ranks"].values())) > 1


def test_nodes_without_the_storage_fail_no_training(tmp_path: Path, workspace: Path) -> None:
    recipe = read(recipe_file(tmp_path))
    trainings = plan_trainings(recipe, workspace, "lora/rte,grown/rte", 1)
    with Results.open(tmp_path, "storage_missing", run_identity(recipe, 1.0, None, None)) as results:
        searcher = RecipeSearcher(trainings, results, retries=1)
        running = searcher.suggest("fine")
        for step in (1, 2):
            for name in "ab":
                assert searcher.suggest(name) not in (None, running)
                searcher.deaths[name] = Death("10.0.0.7 does not see it", storage_missing=True)
                searcher.on_trial_complete(name, error=True)
            assert searcher.suggest("held") is None
            searcher.on_trial_result("fine", {"evaluation": evaluation(step, 10, 0.5), "finished": False})
        assert searcher.suggest("a") is not None and results.runs == {} and searcher.problem is None


def test_failures_are_stored_retried_and_fail_their_dependants(tmp_path: Path, workspace: Path) -> None:
    recipe = read(recipe_file(tmp_path))
    trainings = plan_trainings(recipe, workspace, "again/rte,lora/rte", 1)
    names = [training.run.row for training in trainings]
    assert names == ["lora/rte", "grown/rte", "again/rte"]
    with Results.open(tmp_path, "fails", run_identity(recipe, 1.0, None, None)) as results:
        searcher = RecipeSearcher(trainings, results, retries=1)
        assert [searcher.suggest(name)["until"] for name in "ab"] == [None, None]
        assert searcher.suggest("c") is None  # it waits for b's ranks
        searcher.deaths["b"] = Death("its process died")
        searcher.on_trial_complete("b", error=True)
        assert searcher.suggest("b")["number"] == "grown@rte@0"  # tried again, once
        searcher.deaths["b"] = Death("its process died")
        searcher.on_trial_complete("b", error=True)
        searcher.on_trial_complete("a", {"failed": "out of memory", "out_of_memory": True})
        smaller = searcher.suggest("a")
        assert isinstance(smaller, dict) and smaller["train"].training.accumulate == "auto"
        searcher.on_trial_complete("a", {"evaluation": evaluation(4, 10, 0.5), "finished": True})
        assert searcher.suggest("d") == Searcher.FINISHED and searcher.problem is None
        assert results.runs["grown/rte", 0] == {"failed": "its process died"}
        assert "ranks of grown/rte" in results.runs["again/rte", 0]["failed"]
        assert RecipeSearcher(trainings, results).suggest("e")["number"] == "grown@rte@0"  # tried again
    entries = compared(recipe, Results.read(tmp_path, "fails").runs)
    by_line = {entry["line"]: entry for entry in entries if entry["task"] == "rte"}
    assert by_line["grown"]["failed"] == 1 and by_line["gone"]["note"] == "at inference only"
    assert by_line["lora"]["measured"] == 50 and by_line["lora"]["measured_sd"] is None
    assert json.loads(as_json(entries)) == entries and as_csv(entries).count("\n") == 1 + len(entries)
