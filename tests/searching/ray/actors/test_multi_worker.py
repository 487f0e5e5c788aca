"""Runs with several workers under Ray: in a user's TorchTrainer, and as trials of a search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import autorank
from autorank.errors import AutorankError
from autorank.searching.ray.actors import multi_worker, placement_groups
from autorank.searching.ray.actors.multi_worker import ADAPTER, failure, multi_worker_trial
from autorank.searching.ray.actors.trainable import WarmTrial, bind, from_options
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.scheduler import Scheduler
from autorank.searching.ray.shared_storage_check import NotShared
from autorank.training import checkpoint
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.distributed import rank
from autorank.training.run import TrainingRun
from autorank.trials.retention import adapter_path, checkpoint_path

pytestmark = pytest.mark.long
WORKERS = 2
SETTINGS = {"rank": 2, "learning_rate": 1e-2, "dropout": 0.1}


def break_once(folder: Path) -> None:
    """Let worker 1 fail at its last report. By then Ray has received the first one, since it receives them in order."""
    from ray import train

    if train.get_checkpoint():
        (folder / "resumed").touch()
    elif rank() == 1:
        report, reports = train.report, []

        def breaking(*row, **keywords):
            reports.append(row)
            if len(reports) == 3:
                raise RuntimeError("broken")
            report(*row, **keywords)

        train.report = breaking


def test_restarted_workers_of_a_plain_torch_trainer_end_equal(ray, options, tmp_path):
    """The restarted group ends where the same two workers end when nothing happens, bit for bit."""
    from ray import train
    from ray.train.torch import TorchTrainer

    trained = autorank.train_loop("lora", "pairs", **options)
    spec = from_options("lora", "pairs", **options, **SETTINGS)

    def loop(config):
        break_once(tmp_path)
        trained(config)
        uninterrupted = TrainingRun(spec, ModelCache("cpu"))
        assert len(list(uninterrupted)) == 3
        if rank() == 0:
            uninterrupted.save_adapter(tmp_path / "whole.safetensors")

    result = TorchTrainer(
        loop,
        train_loop_config=SETTINGS,
        scaling_config=train.ScalingConfig(num_workers=WORKERS),
        run_config=train.RunConfig(
            name="own", storage_path=str(tmp_path), failure_config=train.FailureConfig(max_failures=1)
        ),
    ).fit()
    assert (tmp_path / "resumed").exists()
    assert result.metrics["adapter_params"] == 384  # 3 layers x 2 x rank 2 x (16 + 16)
    assert result.metrics["step"] == 12
    with result.checkpoint.as_directory() as folder:
        actual = load_file(Path(folder) / ADAPTER)
    expected = load_file(tmp_path / "whole.safetensors")
    assert list(actual) == list(expected)
    assert all(torch.equal(values, expected[name]) for name, values in actual.items())


@pytest.mark.parametrize("end", ["stopped", pytest.param("killed", marks=pytest.mark.slow)])
def test_a_resumed_trial_gets_the_resources_of_an_ended_one(ray, options, tmp_path, end):
    """Both need all CPUs. The second has a checkpoint whose evaluation was never recorded."""
    from ray import cluster_resources, kill, tune
    from ray.tune.schedulers import TrialScheduler

    specs = [from_options("lora", "pairs", **options | {"epochs": n}, **SETTINGS) for n in (10000, 3)]
    earlier = TrainingRun(specs[1], ModelCache("cpu"))
    checkpoint.save(checkpoint_path(tmp_path, 1), earlier, [next(earlier)])
    reports, searcher = [], SimpleNamespace(deaths={})

    class EndFirst(Scheduler):
        def on_trial_result(self, tune_controller, trial, result):
            reports.append((trial.config["number"], result["evaluation"].step, result["finished"]))
            if trial.config["number"] == 0 and end == "killed":
                kill(trial.temporary_state.ray_actor)
            return TrialScheduler.STOP if reports[-1][0] == 0 and end == "stopped" else TrialScheduler.CONTINUE

    cpus = int(cluster_resources()["CPU"]) // WORKERS
    results = tune.Tuner(
        multi_worker_trial(bind(WarmTrial, folder=tmp_path), Resources(1, cpus, 0, WORKERS)),
        param_space={
            "number": tune.grid_search([0, 1]),
            "train": tune.sample_from(lambda config: specs[config["number"]]),
            "recorded": 0,
        },
        tune_config=tune.TuneConfig(scheduler=EndFirst(searcher), max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="trials", storage_path=str(tmp_path / "ray"), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    deaths = [death.reason for death in searcher.deaths.values()]
    assert len(results.errors) == len(deaths) == (end == "killed")
    assert all(reason.startswith("its process died") for reason in deaths)
    assert reports[0] == (0, 4, False)
    assert reports[1:] == [(1, 4, False), (1, 8, False), (1, 12, True)]
    assert all(adapter_path(tmp_path, 1, step).exists() for step in (8, 12))


def test_resources_of_a_dead_trial_are_free_before_the_next_starts(tmp_path, monkeypatch):
    notes, events = {}, []
    group = placement_groups.PlacementGroup(placement_groups.PlacementGroupID.from_random())
    monkeypatch.setattr(placement_groups._compat, "kv_put", lambda key, value, namespace: notes.update({key: value}))
    monkeypatch.setattr(placement_groups._compat, "kv_get", lambda key, namespace: notes.get(key))
    monkeypatch.setattr(placement_groups._compat, "kv_delete", lambda key, namespace: notes.pop(key))
    monkeypatch.setattr(placement_groups, "remove_placement_group", events.append)
    (tmp_path / "error.txt").write_text("ActorDiedError")
    searcher = SimpleNamespace(deaths={})
    placement_groups.store("0", group)
    for name in ("1", "0", "0"):  # one that has reserved nothing, and one that dies twice
        trial = SimpleNamespace(trial_id=name, error_file=tmp_path / "error.txt")
        Scheduler(searcher).on_trial_error(None, trial)
        events.append(searcher.deaths.pop(name).reason[:16])
    assert events == ["its process died", group, "its process died", "its process died"] and notes == {}


def test_a_reservation_is_found_in_the_cluster(ray):
    """Only the driver is left, as when the trial's node is lost."""
    from ray import cluster_resources
    from ray.util import placement_group, placement_group_table

    def state(group):
        return placement_group_table(group)["state"]

    first, second = (placement_group([{"CPU": cluster_resources()["CPU"]}]) for _ in range(2))
    assert first.wait(30) and state(second) == "PENDING"
    for trial, group in (("a", first), ("b", second)):
        placement_groups.store(trial, group)
    placement_groups.release("a")
    assert second.wait(30) and state(first) == "REMOVED"
    placement_groups.store("a", first)
    for trial in "aab":  # a removed group may be freed again
        placement_groups.release(trial)
    assert state(second) == "REMOVED"


def test_a_trial_interrupted_after_its_last_evaluation_does_not_train_further(options, tmp_path, monkeypatch):
    monkeypatch.setattr(multi_worker, "get_device", lambda: "cpu")
    reports = []
    config = {
        "folder": tmp_path, "number": "0-8-1000", "recorded": 0, "until": 8, "sizes": [64], "cpus": 1, "gpus": 0,
        "mount_token": None,
        "shared_data": None,
        "train": from_options("lora", "pairs", **options | {"epochs": 3}, **SETTINGS),
        "queue": SimpleNamespace(put=reports.append),
    }  # fmt: skip
    for _ in range(2):  # the second finds the first one's checkpoint
        multi_worker.work(config)
    steps = [(item["evaluation"].step, item["finished"]) for item in reports if isinstance(item, dict)]
    assert steps == [(4, False), (8, True)] * 2
    sizes = [
        [slice_.adapter_params for slice_ in item["evaluation"].slices] for item in reports if isinstance(item, dict)
    ]
    assert sizes == [[], [64]] * 2


def test_why_workers_failed():
    from ray import train

    result = failure(train.WorkerGroupError("rank 1: Traceback", {1: AutorankError("the data\nis gone")}))
    assert (result["failed"], result["out_of_memory"], result["done"]) == ("the data is gone", False, True)
    assert "rank 1: Traceback" in result["traceback"]
    result = failure(train.ControllerError(ValueError("no such node")))
    assert result["failed"] == "ValueError: no such node"


def test_the_memory_error_of_one_worker_explains_the_errors_of_the_others():
    from ray import train
    from ray.exceptions import ActorDiedError

    memory = torch.OutOfMemoryError("CUDA out of memory")
    for peer_error in (RuntimeError("Connection closed by peer"), ActorDiedError()):  # with NCCL it may also die
        result = failure(train.WorkerGroupError("both", {0: peer_error, 1: memory}))
        assert (result["failed"], result["out_of_memory"]) == ("out of memory: CUDA out of memory", True)


def test_a_worker_that_died_is_no_fault_of_the_run():
    """The other workers then lose their connection, and their errors do not explain the failure."""
    from ray import train
    from ray.exceptions import ActorDiedError

    died = ActorDiedError()
    assert failure(train.WorkerGroupError("both", {0: RuntimeError("Connection closed by peer"), 1: died})) is died
    lost = torch.AcceleratorError("CUDA error: device-side assert triggered")
    assert failure(train.WorkerGroupError("one", {0: lost})) is lost
    storage_missing = NotShared("Not all nodes of the cluster share the directory")
    assert failure(train.WorkerGroupError("one", {1: storage_missing})) is storage_missing
