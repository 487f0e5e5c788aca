"""What a search will cost: the parameter range is exact, the time at least of the right order."""

from __future__ import annotations

import os

import pytest

from autorank.method import names
from autorank.modeling import targets
from autorank.modeling.base import meta_model
from autorank.search import space
from autorank.search.estimate import estimate
from autorank.search.proposals import first_settings
from autorank.search.resources import Resources
from autorank.search.sizes import Sizes, parameter_range
from autorank.spec import MethodSpec, ObjectivesSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.training.run import TrainingRun
from tests import tiny

RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """LoRA-drop on a tiny model and 60 pairs, rank 1 to 4."""
    folder = tmp_path_factory.mktemp("estimate")
    (folder / "data").mkdir()
    tiny.pairs_file(folder / "data" / "train.jsonl", 60, seed=1)
    tiny.pairs_file(folder / "data" / "validation.jsonl", 30, seed=2)
    space = {"rank": {"type": "int", "low": 1, "high": 4}, "learning_rate": RATE}
    return SearchSpec(
        name="costs", model=tiny.model("bert", folder / "model"), training=TrainingSpec(epochs=3, batch_size=16),
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        methods=(MethodSpec(method="lora-drop", space=space),),
    )  # fmt: skip


def bounds(spec):
    return Sizes(spec.task, spec.model)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "cache"))


def test_shapes_come_from_the_config_alone(spec):
    assert set(targets.shapes(meta_model(spec.model), "query").values()) == {(tiny.HIDDEN, tiny.HIDDEN)}


def test_the_parameter_range_holds_what_runs_train(spec):
    # 3 layers of 2 kinds, rank (16 + 16) each; threshold 0.9 keeps 1 to 3 of 3, and the rest share one
    fewest, most = parameter_range(spec, bounds(spec))
    assert (fewest, most) == (2 * 2 * 32, 4 * 3 * 2 * 32)
    for rank in (1, 4):
        settings = {"rank": rank, "learning_rate": 1e-2}
        run = TrainingRun(spec.train("lora-drop", settings))
        assert fewest <= next(run).adapter_params <= most


def test_the_estimate(spec):
    before = os.environ["AUTORANK_CACHE"]
    cost = estimate(spec, 5, Resources(2, 1, 0), bounds(spec))
    assert cost.steps == 12  # 3 epochs of ⌈60 / 16⌉
    assert 0 < cost.seconds_per_step < cost.seconds_per_trial
    assert cost.seconds == pytest.approx(3 * cost.seconds_per_trial)  # 5 trials, 2 at once
    assert os.environ["AUTORANK_CACHE"] == before


@pytest.mark.parametrize("method", names())
def test_every_methods_own_space_can_be_timed(spec, method):
    """Schedules are those of whole trials, not of the few steps that are timed."""
    own = space.load(method)
    training = spec.training.model_copy(update={"epochs": 40})
    entry = MethodSpec(method=method, settings=own.fixed, space=own.ranges)
    whole = spec.model_copy(update={"methods": (entry,), "training": training})
    cost = estimate(whole, 1, Resources(1, 1, 0), bounds(whole))
    assert cost.steps == 160 and cost.seconds_per_step > 0


def test_the_largest_adapter_that_is_wanted_is_the_end_of_the_range(spec):
    limited = spec.model_copy(update={"objectives": ObjectivesSpec(max_params=500)})
    assert parameter_range(limited, bounds(spec)) == (2 * 2 * 32, 500)


def test_a_method_starts_with_its_defaults_and_both_ends(spec):
    (entry,) = spec.methods
    assert first_settings(entry, bounds(spec)) == [
        {"learning_rate": 1e-3},  # the default rank, 8, is out of range: the sampler's
        {"learning_rate": 1e-3, "rank": 1},
        {"learning_rate": 1e-3, "rank": 4},
    ]
