"""Trials under Ray: warm trials are independent of each other and survive errors; also in plain Tune."""

from __future__ import annotations

import itertools
import math
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import autorank
from autorank.errors import AutorankError
from autorank.searching.ray import shared_storage_check
from autorank.searching.ray.actors import trainable as trainable_module
from autorank.searching.ray.actors.recorded_run import reason
from autorank.searching.ray.actors.trainable import WarmTrial, bind, from_options, row
from autorank.searching.ray.scheduler import _death
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trials.trial_factories import evaluation

pytestmark = pytest.mark.usefixtures("own_directories")

TIMES = {"seconds", "date", "timestamp", "time_this_iter_s", "time_total_s", "time_since_restore", "trial_id"}
SETTINGS = {"rank": 2, "learning_rate": 1e-2}


def deterministic_part(result):
    """Return a result without times and configuration."""
    return {key: value for key, value in result.items() if key in row(evaluation(1, 1, 1.0)) and key not in TIMES}


def results(trainable):
    reports = [trainable.train()]
    while not reports[-1]["done"]:
        reports.append(trainable.train())
    return [deterministic_part(result) for result in reports]


@pytest.mark.parametrize("method", ["lora", "lora-drop"])
def test_a_warm_trial_is_like_a_cold_one(options, method):
    trainable = autorank.tune_trainable(method, "pairs", **options)
    cold = results(trainable(dict(SETTINGS)))
    assert len(cold) == 3
    assert {"score", "adapter_params", "train_loss", "accuracy", "step"} <= set(cold[0])
    warm = trainable({"rank": 4, "learning_rate": 3e-2})
    warm.train()  # left in the middle, as a stopped trial is
    assert warm.reset(dict(SETTINGS))
    assert results(warm) == cold
    warm.stop()


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (0.5, None), (None, None)])
def test_a_trial_that_reserves_no_gpu_trains_on_the_cpu(gpus, device, options, monkeypatch):
    """Ray does not hide the GPUs of the machine from it."""
    monkeypatch.setattr(trainable_module, "ModelCache", lambda device=None: device)
    monkeypatch.setattr(trainable_module, "keep_within", lambda cpus, gpus: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    resources = None if gpus is None else SimpleNamespace(required_resources={"CPU": 1, "GPU": gpus})
    trainable = autorank.tune_trainable("lora", "pairs", **options)
    monkeypatch.setattr(trainable, "trial_resources", resources)
    assert trainable(dict(SETTINGS)).model_cache == device


def test_a_checkpoint_is_resumed_in_another_actor(options, tmp_path):
    trainable = autorank.tune_trainable("lora", "pairs", **options, dropout=0.1)
    first = trainable(dict(SETTINGS))
    first.train()
    saved = first.save(str(tmp_path / "checkpoint"))
    expected = results(first)
    second = trainable(dict(SETTINGS))
    second.restore(saved)
    assert results(second) == expected


def warm_trial(options, folder, settings):
    return bind(WarmTrial, folder=folder)(trial_config(options, 0, settings))


def trial_config(options, number, settings, recorded=0, **values):
    """Return the config of a trial, as the searcher suggests it."""
    train = from_options("lora", "pairs", **options).model_copy(update={"settings": settings})
    return {"number": number, "train": train, "recorded": recorded, **values}


def test_a_trial_that_raises_is_a_result_and_the_next_one_runs(options, tmp_path, monkeypatch):
    trial = warm_trial(options, tmp_path, SETTINGS)
    assert trial.step()["evaluation"].step == 4
    assert (tmp_path / "trials" / "0" / "step-4.safetensors").exists()
    monkeypatch.setattr(trial.run, "train_step", lambda: torch.empty(2) + torch.empty(3))
    failed = trial.step()
    assert failed["done"]
    assert failed["failed"].startswith("RuntimeError: The size of tensor a (2)")
    assert "Traceback" in failed["traceback"]
    trial.reset(trial_config(options, 1, SETTINGS))
    assert [trial.step()["finished"] for _ in range(3)] == [False, False, True]


def test_a_resumed_trial_reports_evaluations_that_were_not_recorded(options, tmp_path):
    trial = warm_trial(options, tmp_path, SETTINGS)
    expected = [replace(trial.step()["evaluation"], seconds=0.0) for _ in range(3)]
    for recorded in (0, 4, 8):  # two evaluations; the driver recorded up to this step before it was killed
        trial_class = bind(WarmTrial, folder=tmp_path / str(recorded))
        first = trial_class(trial_config(options, 0, SETTINGS))
        evaluations = [first.step()["evaluation"] for _ in range(2)]
        evaluations = [evaluation for evaluation in evaluations if evaluation.step <= recorded]
        resumed, result = trial_class(trial_config(options, 0, SETTINGS, recorded=recorded)), {"done": False}
        while not result["done"]:
            result = resumed.step()
            evaluations.append(result["evaluation"])
        assert [replace(evaluation, seconds=0.0) for evaluation in evaluations] == expected


def test_a_trial_may_end_before_its_run(options, tmp_path):
    trial = bind(WarmTrial, folder=tmp_path)(trial_config(options, 0, SETTINGS, until=8))
    assert [trial.step()["done"] for _ in range(2)] == [False, True]
    assert [file.name for file in (tmp_path / "trials").rglob("*.*")] == ["run.pt"]  # and keeps no adapter


def test_only_the_last_evaluation_is_scored_of_a_trial_that_ends_before_its_run(options, tmp_path):
    first, last = itertools.islice(
        TrainingRun(TrainSpec.model_validate(trial_config(options, 0, SETTINGS)["train"])), 2
    )
    trial = bind(WarmTrial, folder=tmp_path)(trial_config(options, 0, SETTINGS, until=8))
    unscored, scored = (trial.step()["evaluation"] for _ in range(2))
    assert math.isfinite(first.score) and all(map(math.isnan, (unscored.score, *unscored.metrics.values())))
    assert (scored.step, scored.score, scored.train_loss) == (last.step, last.score, last.train_loss)
    assert scored.predictions == last.predictions != b""


def test_a_trial_that_ends_early_is_cut_to_the_requested_sizes(options, tmp_path):
    """Even when it was interrupted after its last evaluation, with other sizes."""
    for sizes in ([128, 200], [10, 64]):
        trial = bind(WarmTrial, folder=tmp_path)(trial_config(options, 0, SETTINGS, until=8, sizes=sizes))
        first, last = (trial.step() for _ in range(2))
        assert first["evaluation"].slices == () and last["finished"]
        component = 2 * tiny_models.HIDDEN
        assert [slice_.adapter_params for slice_ in last["evaluation"].slices] == [
            s // component * component for s in sizes
        ]
        scores = {slice_.adapter_params: slice_.score for slice_ in last["evaluation"].slices}
        assert all(0 <= score <= 1 for score in scores.values())


def test_out_of_memory_is_reported(options, tmp_path, monkeypatch):
    trial = warm_trial(options, tmp_path, SETTINGS)
    trial.step()

    def exhausted():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(trial.run, "train_step", exhausted)
    run = weakref.ref(trial.run)
    assert trial.step()["out_of_memory"]
    monkeypatch.undo()  # refers to the run
    assert run() is None  # so its memory is free for the next trial


def test_settings_that_the_method_refuses_fail_the_trial(options, tmp_path):
    failed = warm_trial(options, tmp_path, {"rank": 0}).step()
    assert "rank" in failed["failed"]


def test_a_base_model_that_cannot_be_restored_is_loaded_again(options, tmp_path, monkeypatch):
    trial = warm_trial(options, tmp_path, SETTINGS)
    trial.step()
    before = trial.model_cache

    def broken():
        raise RuntimeError("broken")

    monkeypatch.setattr(trial.run, "train_step", broken)
    monkeypatch.setattr(trial.run, "release", broken)
    assert trial.step()["failed"] == "RuntimeError: broken"
    assert trial.model_cache is not before
    trial.reset(trial_config(options, 1, SETTINGS))
    assert trial.step()["evaluation"].step == 4


def test_a_lost_gpu_context_ends_the_process(options, tmp_path, monkeypatch):
    trial = warm_trial(options, tmp_path, SETTINGS)
    trial.step()

    def lost():
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(trial.run, "train_step", lost)
    with pytest.raises(torch.AcceleratorError):
        trial.step()


def test_a_trial_on_a_node_that_does_not_see_the_folder(ray, options, tmp_path, monkeypatch):
    """It writes nothing there, and its process ends; the error that Ray reports names the node."""
    monkeypatch.setattr(shared_storage_check, "FILE_VISIBILITY_TIMEOUT_S", 0.1)
    with shared_storage_check.keep_mount_token(tmp_path) as mount_token:
        assert bind(WarmTrial, folder=tmp_path, mount_token=mount_token)(trial_config(options, 0, SETTINGS)).step()[
            "evaluation"
        ]
        (tmp_path / "elsewhere").mkdir()
        for name in ("elsewhere", "nowhere"):  # another directory at this path, or none
            folder = tmp_path / name
            trial_class = bind(
                WarmTrial, folder=folder, mount_token=(folder / shared_storage_check.MOUNT_TOKEN, mount_token[1])
            )
            trial = trial_class(trial_config(options, 0, SETTINGS))
            with pytest.raises(shared_storage_check.NotShared) as raised:
                trial.step()
            assert not list(folder.glob("*"))
            text = f"ray::WarmTrial.train()\nautorank.searching.ray.shared_storage_check.NotShared: {raised.value}\n"
            death = _death(text)
            assert death.storage_missing and death.reason == str(raised.value)
            assert f"share {folder}: " in death.reason and "(node " in death.reason and "--runs DIR" in death.reason
    assert not (tmp_path / shared_storage_check.MOUNT_TOKEN).exists()


def test_storage_that_fails_ends_the_process(options, tmp_path, monkeypatch):
    """A trial whose process ended is retried; a failed trial would not be."""

    def fails(mount_token):
        raise shared_storage_check.Unreachable("SlowDown")

    monkeypatch.setattr("autorank.searching.ray.actors.trainable.check_from_node", fails)
    trial = bind(WarmTrial, folder=tmp_path, mount_token=(tmp_path / shared_storage_check.MOUNT_TOKEN, "token"))(
        trial_config(options, 0, SETTINGS)
    )
    with pytest.raises(shared_storage_check.Unreachable):
        trial.step()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AutorankError("settings are not valid:\n  rank: too low"), "settings are not valid: rank: too low"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory: CUDA out of memory. Tried"),
        (MemoryError(), "out of memory"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_reasons_of_failed_trials(error, text):
    assert reason(error) == text


def test_options_are_assigned_to_task_training_and_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = from_options("lora", "mrpc", data="here", max_length=64, epochs=2, seed=7, model="org/model", alpha=8)
    assert spec.task == TaskSpec(name="mrpc", data=tmp_path / "here", max_length=64)
    assert spec.training == TrainingSpec(epochs=2, seed=7)
    assert (spec.model, spec.method, spec.settings) == ("org/model", "lora", {"alpha": 8})


@pytest.mark.parametrize(
    ("bad_options", "problem"),
    [({"epocs": 3}, "epocs"), ({"epochs": 0}, "training.epochs"), ({"alpha": -1}, "alpha"), ({"rnak": 1}, "rank")],
)
def test_options_that_are_refused(bad_options, problem):
    with pytest.raises(AutorankError, match=problem):
        autorank.tune_trainable("lora", **bad_options)


def test_trainable_runs_in_a_plain_ray_tuner(ray, options, tmp_path):
    from ray import tune

    result_grid = tune.Tuner(
        autorank.tune_trainable("lora", "pairs", **options),
        param_space={"rank": tune.grid_search([1, 2]), "learning_rate": 1e-2},
        tune_config=tune.TuneConfig(metric="score", mode="max", reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(name="own", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert not result_grid.errors
    assert [result.metrics["adapter_params"] for result in result_grid] == [192, 384]  # 3 layers x 2 x rank (16 + 16)
    assert all(result.metrics["training_iteration"] == 3 and result.checkpoint for result in result_grid)
