"""Runs of the conformance suite's cases: how to start, record and compare them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autorank import methods
from autorank.method import TargetedConfig
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables.cases import METHODS, STEPS, Case

each_method = pytest.mark.parametrize("name", METHODS)

WORKERS = 2
DEVICE = "cpu"  # where the conformance suite trains


def write_model(folder: Path, dropout: float) -> None:
    """Write a tiny model with uneven attention, so that all gradients are above rounding errors."""
    tiny_models.model("bert", folder)
    tiny_models.set_dropout(folder, dropout)
    weights = load_file(folder / "model.safetensors")
    wider = {name: 8 * w if w.ndim == 2 else w for name, w in weights.items()}
    save_file(wider, folder / "model.safetensors", {"format": "pt"})


Jobs = Callable[[Path], dict[str, Callable[[], dict[str, Any]]]]


def _work(rank: int, jobs: Jobs, folder: Path) -> None:
    """One worker: run each job in a separate process group, and write its result or error to a file."""
    torch.set_num_threads(1)
    for name, job in jobs(folder).items():
        dist.init_process_group("gloo", f"file://{folder / name}.group", datetime.timedelta(seconds=60), WORKERS, rank)
        try:
            result = job()
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        torch.save(result, folder / f"{name}-{rank}.pt")
        dist.destroy_process_group()


def on_workers(jobs: Jobs, folder: Path, seconds: float) -> None:
    """Run the named jobs of `jobs(folder)` in WORKERS processes over gloo; kill them after `seconds`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        workers = mp.spawn(_work, (jobs, folder), WORKERS, join=False)
        deadline = time.monotonic() + seconds
        try:
            while not workers.join(timeout=5) and time.monotonic() < deadline:
                pass
        except Exception as error:  # tests fail if their results are missing
            print(error)
        for process in workers.processes:
            process.kill()


def results(folder: Path, name: str) -> list[dict[str, Any]]:
    """The result of a job from each worker; none of them is an `error`."""
    worker_results = [torch.load(folder / f"{name}-{rank}.pt", weights_only=False) for rank in range(WORKERS)]
    assert [result.get("error") for result in worker_results] == [None] * WORKERS
    return worker_results


def spec(
    workspace: Path, name: str, settings: dict[str, Any] | None = None, model: str = "model", **training_options: Any
) -> TrainSpec:
    common: dict[str, Any] = {"learning_rate": 1e-2}
    if issubclass(methods.find(name).Config, TargetedConfig):
        common["targets"] = "all-linear"
    training = {"steps": STEPS, "batch_size": 8, "eval_every": 1, "precision": "fp32"}
    return TrainSpec(
        task=TaskSpec(name="pairs", data=workspace / "data", text=("left", "right"), label="label"),
        model=str(workspace / model),
        method=name,
        settings=common | METHODS[name].settings | (settings or {}),
        training=TrainingSpec(**training | training_options),
    )


def cache(probes: Path | None = None) -> ModelCache:
    """A model cache on the suite's device."""
    return ModelCache(DEVICE, probes)


def start(train_spec: TrainSpec, probes: Path | None = None) -> TrainingRun:
    return TrainingRun(train_spec, cache(probes))


def open_run(train_spec: TrainSpec, probes: Path | None = None) -> TrainingRun:
    """A run with attached updates, before its first step."""
    run = start(train_spec, probes)
    run.start()
    return run


def until(run: TrainingRun, step: int) -> list[Evaluation]:
    return [next(run) for _ in range(step - run.step)]


def weights(run: TrainingRun) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in adapters.tensors(run._base.model).items()}


def functional(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the key biases, which do not change softmax: Adam amplifies the rounding errors in their gradients."""
    return {name: value for name, value in values.items() if not name.endswith("key.bias")}


def full_state(run: TrainingRun) -> dict[str, Any]:
    """The state on which the remaining run depends."""
    return {key: value for key, value in run.state_dict().items() if key != "seconds"}


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal, bit for bit."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first.cpu(), second.cpu())
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    return bool(first == second)


def without_seconds(evaluations: list[Evaluation]) -> list[Evaluation]:
    return [replace(evaluation, seconds=0.0) for evaluation in evaluations]


def inputs(run: TrainingRun) -> dict[str, Tensor]:
    """All validation examples as one batch, labels left out."""
    (split,) = run._data.validation.values()
    batch = collate(split, np.arange(len(split)), run._data.pad_id)
    del batch["labels"]
    return batch


def logits(run: TrainingRun) -> Tensor:
    """Logits of the validation examples, examples x classes."""
    (split,) = run._data.validation.values()
    return torch.from_numpy(run._loop.predict(split, [np.arange(len(split))]))


@dataclass
class Trained:
    """A finished run, and what was recorded at each of the case's stops.

    Attributes:
        adapters: Number of finished steps -> adapter file.
        logits: Number of finished steps -> logits of the validation examples.
        states: Number of finished steps -> file with the run's state.
        components: Number of finished steps -> number of components, those for training only included.
        penalties: Steps at which the penalty was computed.
    """

    run: TrainingRun
    case: Case
    evaluations: list[Evaluation]
    adapters: dict[int, Path]
    logits: dict[int, Tensor]
    states: dict[int, Path]
    components: dict[int, int]
    penalties: list[int]


def train(name: str, workspace: Path) -> Trained:
    run, case = start(spec(workspace, name)), METHODS[name]
    result = Trained(run, case, [], {}, {}, {}, {}, [])
    penalty = run._method.penalty
    run._method.penalty = lambda context: result.penalties.append(context.step) or penalty(context)  # type: ignore
    for evaluation in run:
        result.evaluations.append(evaluation)
        step = evaluation.step
        if step in (*case.stops, STEPS):
            result.adapters[step] = workspace / f"{name}-{step}.safetensors"
            run.save_adapter(result.adapters[step])
            result.logits[step] = logits(run)
            result.states[step] = workspace / f"{name}-{step}.pt"
            torch.save(run.state_dict(), result.states[step])
            updates = {layer.update for layer in adapters.adapted(run._base.model).values()}
            result.components[step] = sum(update.components for update in updates)
    return result


def with_hooks(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules that have hooks."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [module for module in modules if any(getattr(module, kind) for kind in kinds)]
