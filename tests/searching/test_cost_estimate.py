"""The estimated costs of a search: the parameter range is exact, the time at least of the right order."""

from __future__ import annotations

import os

import pytest
from rich.console import Console

from autorank.display.dry_run import dry_run
from autorank.errors import AutorankError
from autorank.methods import names
from autorank.modeling import target_modules
from autorank.modeling.base_model import meta_model
from autorank.searching.budget import Budget
from autorank.searching.cost_estimate import Estimate, estimate
from autorank.searching.create import open_journal
from autorank.searching.ray.resources import Resources
from autorank.searching.sampling.optuna_study import first_settings
from autorank.searching.space import space
from autorank.searching.space.param_bounds import ParamBounds, parameter_range
from autorank.spec import MethodSpec, ObjectivesSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.training.eval_batch_size import DECODED
from autorank.training.model_cache import ModelCache
from autorank.training.objectives.generation import GenerationObjective
from autorank.training.optimization.forward_passes import ForwardPasses
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.run import TrainingRun
from tests import tiny_language_models, tiny_models
from tests.trials.trial_factories import evaluation
from trainables import eva

pytestmark = pytest.mark.usefixtures("own_cache")

RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """LoRA-drop on a tiny model and 60 pairs, rank 1 to 4."""
    folder = tmp_path_factory.mktemp("estimate")
    tiny_models.pairs_folder(folder / "data", 60, 30)
    space = {"rank": {"type": "int", "low": 1, "high": 4}, "learning_rate": RATE}
    return SearchSpec(
        name="costs", model=tiny_models.model("bert", folder / "model"), training=TrainingSpec(epochs=3, batch_size=16),
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        methods=(MethodSpec(method="lora-drop", space=space),),
    )  # fmt: skip


def bounds(spec):
    return ParamBounds(spec.task, spec.model)


def test_shapes_come_from_the_config_alone(spec):
    assert set(target_modules.shapes(meta_model(spec.model), "query").values()) == {
        (tiny_models.HIDDEN, tiny_models.HIDDEN)
    }


def test_the_parameter_range_contains_the_sizes_of_trained_adapters(spec):
    # 3 layers of 2 kinds, rank (16 + 16) each; threshold 0.9 keeps 1 to 3 of 3, and the rest share one
    smallest, largest = parameter_range(spec, bounds(spec))
    assert (smallest, largest) == (2 * 2 * 32, 4 * 3 * 2 * 32)
    for rank in (1, 4):
        settings = {"rank": rank, "learning_rate": 1e-2}
        run = TrainingRun(spec.train("lora-drop", settings))
        assert smallest <= next(run).adapter_params <= largest


def test_the_estimate_of_steps_and_seconds(spec):
    before = os.environ["AUTORANK_CACHE"]
    cost = estimate(spec, 5, Resources(2, 1, 0), bounds(spec))
    assert cost.steps == 12  # 3 epochs of ⌈60 / 16⌉
    assert 0 < cost.seconds_per_step < cost.seconds_per_trial
    assert cost.seconds == pytest.approx(3 * cost.seconds_per_trial)  # 5 trials, 2 at once
    assert os.environ["AUTORANK_CACHE"] == before


class Clock:
    """A clock that advances only during timed functions."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def with_duration(self, seconds, call):
        """Return the function such that a call takes `seconds(*arguments)`."""

        def timed(*args):
            self.now += seconds(*args)
            return call(*args)

        return timed


@pytest.mark.parametrize(("method", "prompts"), [("lora", 32), ("eva", 32), ("lora", 64)])
def test_the_estimate_equals_the_time_that_a_run_takes(method, prompts, tmp_path, monkeypatch):
    """For a text-to-text task, whose evaluations generate answers to batches of prompts, one token of each at a time.

    Steps, tokens and EVA's preparation take a fixed time each. The preparation counts although later runs reuse it.
    """
    clock = Clock()
    if prompts != DECODED:  # as on a GPU
        monkeypatch.setattr(ForwardPasses, "decoding_batch", lambda *_: prompts)
    for module in ("autorank.training.run", "autorank.searching.cost_estimate"):
        monkeypatch.setattr(f"{module}.time", clock)
    timed_step = clock.with_duration(lambda *_: 2.0, OptimizationLoop.step)
    timed_write = clock.with_duration(
        lambda _, loop, split, longest: -(-len(split) // prompts) * longest * 0.5, GenerationObjective.write
    )
    monkeypatch.setattr(OptimizationLoop, "step", timed_step)
    monkeypatch.setattr(GenerationObjective, "write", timed_write)
    monkeypatch.setattr(eva, "directions", clock.with_duration(lambda *_: 7.0, eva.directions))
    tiny_language_models.data(tmp_path / "data", validation=70)
    search = SearchSpec(
        name="texts", model=tiny_language_models.model("llama", tmp_path / "model"),
        training=TrainingSpec(epochs=4, batch_size=16),
        task=TaskSpec(name="texts", data=tmp_path / "data", prompt="asked", completion="told", metric="rougeL"),
        methods=(MethodSpec(method=method, space={"learning_rate": RATE}),),
    )  # fmt: skip
    cost = estimate(search, 1, Resources(1, 1, 0), ParamBounds(search.task, search.model))
    run = TrainingRun(search.train(method, {"learning_rate": 1e-6}), ModelCache(probes=tmp_path / "probes"))
    *_, last = run
    longest, batches = 5, -(-70 // prompts)  # tokens: "a blue bird sings" and its end
    assert cost.seconds_per_step == 2 and cost.seconds_per_evaluation == batches * longest * 0.5
    preparation = 7 if method == "eva" else 0
    assert cost.seconds_per_trial == last.seconds == 24 * 2 + 4 * batches * longest * 0.5 + preparation


@pytest.mark.parametrize("method", names())
def test_each_built_in_space_can_be_timed(spec, method):
    """Schedules are those of complete trials, not of the few steps that are timed."""
    built_in = space.load(method)
    training = spec.training.model_copy(update={"epochs": 40})
    entry = MethodSpec(method=method, settings=built_in.fixed, space=built_in.ranges)
    long_spec = spec.model_copy(update={"methods": (entry,), "training": training})
    cost = estimate(long_spec, 1, Resources(1, 1, 0), bounds(long_spec))
    assert cost.steps == 160 and cost.seconds_per_step > 0


def test_the_largest_allowed_adapter_is_the_end_of_the_range(spec):
    limited = spec.model_copy(update={"objectives": ObjectivesSpec(max_params=500)})
    assert parameter_range(limited, bounds(spec)) == (2 * 2 * 32, 500)
    impossible = spec.model_copy(update={"objectives": ObjectivesSpec(max_params=100)})
    with pytest.raises(AutorankError, match="--max-params 100 is less than the smallest adapter of the space, 128"):
        parameter_range(impossible, bounds(spec))


def test_a_dry_run_mentions_confirmations_and_joins_no_cluster(spec, monkeypatch):
    cost = Estimate((128, 512), 0.1, 1.0, 5.0, 20.0, 12, "label: 2 classes: a 50%, b 50%")
    monkeypatch.setattr("autorank.display.dry_run.estimate", lambda *_: cost)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    console = Console(width=100)
    with console.capture() as local_output:
        console.print(dry_run(spec, Budget(trials=4, confirm=3)))
    assert "label: 2 classes: a 50%, b 50%" in local_output.get()
    assert "confirmation        3 more runs for each adapter with points on the front" in local_output.get()
    with console.capture() as cluster_output:
        console.print(dry_run(spec, Budget(trials=4, gpus_per_trial=64, address="auto")))
    assert "of this machine, not of the cluster" in cluster_output.get() and "confirmation" not in cluster_output.get()


def test_a_dry_run_of_an_existing_search_is_of_its_further_trials(spec, tmp_path, monkeypatch):
    trials = []
    cost = Estimate((128, 512), 0.1, 1.0, 5.0, 20.0, 12, "")
    monkeypatch.setattr("autorank.display.dry_run.estimate", lambda spec, number, *_: trials.append(number) or cost)
    with open_journal(spec, tmp_path, lambda: (512.0, 0.0)) as journal:
        journal.set_options(trials=60, confirm=2)
        (entry,) = spec.methods
        for _ in range(3):
            number = journal.begin(entry.method, {"rank": 1, "learning_rate": 1e-3}, {}).number
            journal.record(number, evaluation(1, 128, 0.5))
            journal.finish(number, "complete")
    console = Console(width=100)
    with console.capture() as output:
        for budget in (Budget(), Budget(trials=4), Budget(trials=20, more=True)):
            console.print(dry_run(spec, budget, tmp_path))
    with pytest.raises(AutorankError, match=r"(?s)already contains a search .*seed: was 0, now 7"):
        dry_run(spec.model_copy(update={"seed": 7}), Budget(), tmp_path)
    assert trials == [57, 1, 57] and "1 further trial  " in output.get() and output.get().count("2 more runs") == 3


@pytest.mark.parametrize(("sliced", "rank"), [(False, 1), (True, 4)])
def test_a_method_starts_with_its_defaults_and_the_smallest_or_largest_adapter(spec, sliced, rank):
    """The slices of the largest adapter are adapters of all sizes; without slices a search starts with the smallest."""
    (entry,) = spec.methods
    settings = first_settings(entry, bounds(spec), sliced)
    assert settings == [
        {"learning_rate": 1e-3},  # the default rank, 8, is out of range: the sampler chooses one
        {"learning_rate": 1e-3, "rank": rank},
    ]


def test_an_adapter_over_the_limit_counts_where_it_is_sliced(spec):
    limit = {"objectives": ObjectivesSpec(max_params=100), "training": TrainingSpec(slices="auto")}
    assert parameter_range(spec.model_copy(update=limit), bounds(spec)) == (100, 100)
