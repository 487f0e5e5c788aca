"""Which settings of the catalogue a search begins with, and whether the shipped ones are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from autorank import methods, tasks
from autorank.searching import search as search_module
from autorank.searching.budget import Budget
from autorank.searching.create import make_spec, open_journal
from autorank.searching.sampling import catalogue
from autorank.searching.sampling.catalogue import CatalogueEntry, first_trials, sources
from autorank.searching.sampling.trial_planner import TrialPlanner
from autorank.searching.sampling.warm_start import default_settings
from autorank.searching.search import search
from autorank.searching.space import ranges
from autorank.searching.space.param_bounds import ParamBounds
from autorank.searching.space.space import load
from autorank.spec import EarlierTrial, MethodSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.tasks.definition import TaskData
from tests.searching.fake_runs import SPACE, bounds, search_spec

LORA = MethodSpec(method="lora", settings={"targets": "all-linear"}, space=SPACE)
LAYERS = {"targets": "all-linear"}


class Sizes:
    """A base model with a million parameters."""

    model_params = 1_000_000


def past_search(task: str, *best: dict[str, Any], **values: Any) -> CatalogueEntry:
    fields = {"model": "base", "model_params": 2_000_000, "kind": "regression", "seen": 4000}
    return CatalogueEntry(task=task, best={"lora": best}, **(fields | values))


@pytest.fixture(scope="module")
def data() -> TaskData:
    return tasks.load(TaskSpec(name="demo", max_train_examples=100), tasks.base_model(TaskSpec(name="demo"), None))


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch, data: TaskData) -> Any:
    """Return the first settings of a LoRA search on 1,600 examples, with a catalogue of these searches."""

    def choose(*searches: CatalogueEntry) -> list[tuple[str, dict[str, Any]]]:
        monkeypatch.setattr(catalogue, "catalogue_entries", lambda: searches)
        spec = search_spec(methods=(LORA,), training=TrainingSpec(steps=100, batch_size=16))
        return [(trial.search, trial.settings) for trial in first_trials(spec, data, cast(ParamBounds, Sizes()))]

    return choose


def test_the_nearest_search_counts(choose: Any, data: TaskData) -> None:
    best = {"learning_rate": 2e-3, "rank": 4, **LAYERS}
    searched = {"learning_rate": 2e-3, "rank": 4}
    far, near = past_search("far", best, model_params=9_000_000), past_search("near", best)
    assert choose(far, near) == [("near with base", searched)]
    same_kind = past_search("same", best, model_params=9_000_000, kind=data.task.kind.name)
    assert choose(near, same_kind) == [("same with base", searched)]
    same_model = past_search(
        "model", best, model_params=9_000_000, model=Path(tasks.base_model(TaskSpec(name="demo"))).name
    )
    assert choose(near, same_model)[0][0].startswith("model with ")


def test_a_much_larger_model_or_a_much_longer_run_is_too_far(choose: Any) -> None:
    best = {"learning_rate": 2e-3, **LAYERS}
    assert choose(past_search("large", best, model_params=11_000_000), past_search("long", best, seen=17_000)) == []


def test_settings_must_fit_the_space(choose: Any) -> None:
    """Another value of a fixed setting, or one outside its range, leaves out the settings, and the next are taken.

    Settings that the catalogue does not have had their defaults.
    """
    conflicting = {"learning_rate": 1e-3, "targets": "attention-qv"}
    without = {"learning_rate": 1e-3}  # with the default layers, attention-qv
    outside = {"learning_rate": 0.5, **LAYERS}
    unknown = {"learning_rate": 1e-3, "gone": 1, **LAYERS}
    fitting = {"learning_rate": 2e-3, **LAYERS}
    searched = {"learning_rate": 2e-3, "rank": 8}
    assert choose(past_search("a", conflicting, without, outside, unknown, fitting)) == [("a with base", searched)]
    assert choose(past_search("a", conflicting), past_search("b", fitting, seen=3000)) == [("b with base", searched)]


def test_a_search_begins_with_settings_of_the_catalogue_and_then_the_defaults(tmp_path: Path) -> None:
    first = EarlierTrial(search="a with base", method="lora", settings={"learning_rate": 3e-3}, first=True)
    spec = search_spec(methods=(LORA,), warm_start=(first,))
    with open_journal(spec, tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        planner = TrialPlanner(journal, bounds)
        trials = [planner.begin() for _ in range(3)]
    rates = [trial.settings["learning_rate"] for trial in trials if trial is not None]
    defaults = methods.find("lora").Config()
    assert rates == [3e-3, defaults.learning_rate, defaults.learning_rate]
    assert trials[1] is not None and trials[1].settings["rank"] == defaults.rank
    assert sources((first,)) == "lora (best on a with base)"


def test_settings_that_are_the_defaults_come_once(choose: Any, tmp_path: Path) -> None:
    defaults = default_settings(LORA)
    assert choose(past_search("a", defaults)) == []
    first = EarlierTrial(search="a with base", method="lora", settings=defaults, first=True)
    with open_journal(
        search_spec(methods=(LORA,), warm_start=(first,)), tmp_path / "s", lambda: (64.0, 0.0)
    ) as journal:
        planner = TrialPlanner(journal, bounds)
        ranks = [trial.settings["rank"] for trial in (planner.begin(), planner.begin()) if trial is not None]
    assert ranks == [defaults["rank"], 1]  # then the smallest, as adapters are not sliced here


def test_settings_of_the_catalogue_are_stored_in_the_journal_of_a_new_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their source is printed once. They are not used with `catalogue` off, nor in addition to earlier searches."""
    first = EarlierTrial(search="a with base", method="lora", settings={"learning_rate": 3e-3}, first=True)
    earlier = EarlierTrial(search="b", method="lora", settings={"rank": 2}, ranks=(1.0,), first=True)
    monkeypatch.setattr(catalogue, "first_trials", lambda *_: (first,))
    monkeypatch.setattr(search_module, "run_missing_trials", lambda journal, *_: journal.spec.warm_start)

    def start_search(name: str, **values: Any) -> tuple[Any, list[str]]:
        messages: list[str] = []
        spec = search_spec(name, methods=(LORA,), training=TrainingSpec(steps=20), **values)
        return search(spec, tmp_path / name, Budget(2), inform=messages.append), messages[1:]  # the first is on labels

    assert start_search("new") == (
        (first,),
        ["First settings from the catalogue: lora (best on a with base). --no-catalogue leaves them out."],
    )
    assert start_search("new") == ((first,), [])
    assert start_search("off", catalogue=False) == ((), [])
    assert start_search("warm", warm_start=(earlier,)) == ((earlier,), [])


@pytest.mark.parametrize("shipped", catalogue.catalogue_entries(), ids=lambda shipped: shipped.task)
def test_the_shipped_settings_are_valid_and_within_the_built_in_spaces(shipped: CatalogueEntry) -> None:
    assert shipped.best
    for method, best in shipped.best.items():
        space = load(method)
        for settings in best:
            methods.configure(method, settings)
            assert set(settings) <= {*space.ranges, "targets"}
            assert all(ranges.contains(space.ranges[n], v) for n, v in settings.items() if n in space.ranges)


def test_a_search_like_a_recorded_one_begins_with_its_settings(data: TaskData) -> None:
    shipped = catalogue.catalogue_entries()[0]
    spec = make_spec(
        {"adalora": load("adalora")},
        TaskSpec(name="demo"),
        training=TrainingSpec(steps=shipped.seen // 16, batch_size=16),
    )
    sizes = Sizes()
    sizes.model_params = shipped.model_params
    trials = first_trials(spec, data, cast(ParamBounds, sizes))
    assert {trial.method for trial in trials} <= {"adalora", "lora"} and trials
    assert isinstance(spec, SearchSpec) and spec.catalogue
