"""A run on two workers (gloo on the loopback) equals a run on one worker, even when it is stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from autorank.method import TargetedConfig
from autorank.methods import find
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_language_models, tiny_models
from tests.cache_dirs import cached_in
from tests.trainables.conformance_runs import functional, on_workers, results

pytestmark = pytest.mark.long
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "lora-drop": {"rank": 2, "threshold": 0.6, "probe_ratio": 0.5},
    "increlora": {"mean_rank": 3, "top_h": 5, "components": 2, "interval": 2},
    "adalora": {"mean_rank": 1, "start_ratio": 3, "initial": 0.1, "final": 0.3, "interval": 2},
    "prilora": {"mean_rank": 2, "interval": 4},
    "rslora": {"rank": 2},
    "dora": {"rank": 2},
    "pissa": {"rank": 2},
    "eva": {"rank": 2, "svd_batch_size": 8},
    "elalora": {"mean_rank": 3, "initial": 0.1, "final": 0.2, "rounds": 3, "moved": 6},
    "lora-squeeze": {"mean_rank": 1, "source_rank": 6, "stages": 2, "initial": 0.1, "final": 0.3},
    "gora": {"reference_rank": 2, "examples": 20},
    "sora": {"rank": 2, "threshold": 0.05, "schedule": (0.02, 0.1)},
    "sparse-adapter": {"rank": 2},
    "vera": {"rank": 6},
    "tied-lora": {"rank": 2},
    "full": {"learning_rate": 1e-3},
    "bitfit": {},
    "houlsby": {"size": 3},
    "pfeiffer": {"size": 3},
}
BATCH = 8
EXAMPLES = {"even": 4 * BATCH, "odd": BATCH + 1}  # every other step of `odd` has one example: too few for two workers
CASES = [(method, "even") for method in SETTINGS] + [("increlora", "odd"), ("prilora", "odd")]
STOP = 6  # steps done


def spec(folder: Path, method: str, data: str, model: str = "model", **settings: Any) -> TrainSpec:
    common: dict[str, Any] = {"learning_rate": 3e-3}
    if issubclass(find(method).Config, TargetedConfig):
        common["targets"] = "all-linear"
    return TrainSpec(
        task=TaskSpec(name="pairs", data=folder / data, text=("left", "right"), label="label"),
        model=str(folder / model),
        method=method,
        settings=common | SETTINGS[method] | settings,
        training=TrainingSpec(steps=12, batch_size=BATCH, eval_every=2, precision="fp32"),
    )


def grow_all_spec(folder: Path) -> TrainSpec:
    """IncreLoRA in which all layers grow at once, whatever their importance."""
    return spec(folder, "increlora", "even", top_h=18)


def text_spec(folder: Path) -> TrainSpec:
    """Text generation, where examples are weighted by their tokens."""
    return TrainSpec(
        task=TaskSpec(name="texts", data=folder / "texts", prompt="asked", completion="told", metric="rougeL"),
        model=str(folder / "gpt2"),
        method="lora",
        settings={"targets": "all-linear", "learning_rate": 3e-3, "rank": 2},
        training=TrainingSpec(steps=6, batch_size=BATCH, eval_every=2, precision="fp32"),
    )


def finish(run: TrainingRun) -> dict[str, Any]:
    evaluations = [asdict(evaluation) | {"seconds": 0.0} for evaluation in run]
    return {"evaluations": evaluations, "weights": adapters.tensors(run._base.model)}


def train(train_spec: TrainSpec, probes: Path | None = None) -> dict[str, Any]:
    return finish(TrainingRun(train_spec, ModelCache("cpu", probes)))


def resume(train_spec: TrainSpec, file: Path) -> dict[str, Any]:
    """Train a run, and a new one from the state that worker 0 has saved at STOP; return what follows STOP in both."""
    run = TrainingRun(train_spec, ModelCache("cpu"))
    while run.step < STOP:
        next(run)
    if dist.get_rank() == 0:
        torch.save(run.state_dict(), file)
    dist.barrier()
    uninterrupted = finish(run)
    resumed = TrainingRun(train_spec, ModelCache("cpu"))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    return {"uninterrupted": uninterrupted, "resumed": finish(resumed)}


def jobs(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Jobs that the workers run together, by name."""
    named_jobs = {f"{method}-{data}": partial(train, spec(folder, method, data)) for method, data in CASES}
    named_jobs["increlora-everywhere"] = partial(train, grow_all_spec(folder))
    named_jobs["texts"] = partial(train, text_spec(folder))
    for method in SETTINGS:
        dropout_spec = spec(folder, method, "even", model="wet")
        named_jobs[f"{method}-resumed"] = partial(resume, dropout_spec, folder / f"{method}.pt")
    return named_jobs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("workers")
    tiny_models.model("bert", directory / "model")
    tiny_models.model("bert", directory / "wet")  # with dropout
    tiny_models.set_dropout(directory / "model", 0.0)  # dropout masks differ between workers
    tiny_language_models.data(directory / "texts", train=3 * BATCH + 1)
    tiny_language_models.model("gpt2", directory / "gpt2")
    for data, examples in EXAMPLES.items():
        tiny_models.pairs_folder(directory / data, examples)
    with cached_in(directory):
        on_workers(jobs, directory, seconds=600)
        yield directory


def check_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Bit for bit."""
    assert actual["evaluations"] == expected["evaluations"]
    assert list(actual["weights"]) == list(expected["weights"])
    assert all(torch.equal(values, expected["weights"][name]) for name, values in actual["weights"].items())


@pytest.mark.parametrize("name", [f"{method}-{data}" for method, data in CASES])
def test_workers_stay_identical(name: str, folder: Path) -> None:
    check_equal(*results(folder, name))


@pytest.mark.parametrize("method", SETTINGS)
def test_resumed_workers_equal_uninterrupted_ones(method: str, folder: Path) -> None:
    for result in results(folder, f"{method}-resumed"):
        assert len(result["uninterrupted"]["evaluations"]) == 3
        check_equal(result["resumed"], result["uninterrupted"])


@pytest.mark.parametrize(("method", "data"), [case for case in CASES if case[0] != "increlora"])
def test_two_workers_train_as_one(method: str, data: str, folder: Path) -> None:
    alone = train(spec(folder, method, data), probes=folder / "alone")
    check_close(results(folder, f"{method}-{data}")[0], alone)


def test_two_workers_train_as_one_on_texts(folder: Path) -> None:
    workers = results(folder, "texts")
    check_equal(*workers)
    check_close(workers[0], train(text_spec(folder)))


def test_two_workers_train_as_one_with_increlora(folder: Path) -> None:
    """Workers average importances, not gradients, so other layers may be chosen; here all layers grow."""
    check_close(results(folder, "increlora-everywhere")[0], train(grow_all_spec(folder)))


def check_close(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    for evaluation, expected_evaluation in zip(actual["evaluations"], expected["evaluations"], strict=True):
        assert evaluation["ranks"] == expected_evaluation["ranks"]
        assert evaluation["train_loss"] == pytest.approx(expected_evaluation["train_loss"], rel=1e-4)
    assert list(actual["weights"]) == list(expected["weights"])
    for name, values in functional(expected["weights"]).items():
        torch.testing.assert_close(actual["weights"][name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data", EXAMPLES)
def test_increloras_budget_is_kept(data: str, folder: Path) -> None:
    totals = [
        (evaluation["step"], sum(evaluation["ranks"].values()))
        for evaluation in results(folder, f"increlora-{data}")[0]["evaluations"]
    ]
    assert totals == [(2, 18), (4, 18), (6, 28), (8, 38), (10, 48), (12, 54)]
