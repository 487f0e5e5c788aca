"""Two workers on one run, over gloo on the loopback, against one worker with the same batches."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from autorank.training.workshop import Workshop
from tests import tiny

WORKERS = 2
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "increlora": {"mean_rank": 3, "top_h": 5, "components": 2, "interval": 2},
    "adalora": {"mean_rank": 1, "start_ratio": 3, "initial": 0.1, "final": 0.3, "interval": 2},
    "prilora": {"mean_rank": 2, "interval": 4},
}
BATCH = 8
EXAMPLES = {"even": 4 * BATCH, "odd": BATCH + 1}  # of the odd ones every other step has one: too few for two workers
CASES = [(method, "even") for method in SETTINGS] + [("increlora", "odd"), ("prilora", "odd")]


def spec(folder: Path, method: str, data: str) -> TrainSpec:
    return TrainSpec(
        task=TaskSpec(name="pairs", data=folder / data, text=("left", "right"), label="label"),
        model=str(folder / "model"),
        method=method,
        settings={"targets": "all-linear", "learning_rate": 3e-3} | SETTINGS[method],
        training=TrainingSpec(steps=12, batch_size=BATCH, eval_every=2, precision="fp32"),
    )


def train(wanted: TrainSpec) -> dict[str, Any]:
    run = TrainingRun(wanted, Workshop("cpu"))
    evaluations = [asdict(evaluation) | {"seconds": 0.0} for evaluation in run]
    return {"evaluations": evaluations, "weights": adapters.tensors(run._base.model)}


def work(rank: int, folder: Path) -> None:
    """One of the workers: all cases, each in a process group of its own, their results in files."""
    torch.set_num_threads(1)
    for method, data in CASES:
        name = f"{method}-{data}"
        dist.init_process_group("gloo", f"file://{folder / name}.group", datetime.timedelta(seconds=10), WORKERS, rank)
        try:
            result = train(spec(folder, method, data))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        torch.save(result, folder / f"{name}-{rank}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("workers")
    tiny.model("bert", made / "model")
    config = json.loads((made / "model" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # it falls differently on workers
    (made / "model" / "config.json").write_text(json.dumps(config))
    for data, examples in EXAMPLES.items():
        (made / data).mkdir()
        tiny.pairs_file(made / data / "train.jsonl", examples, seed=1)
        tiny.pairs_file(made / data / "validation.jsonl", 10, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORANK_CACHE", str(made / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        started = mp.spawn(work, (made,), WORKERS, join=False)
        deadline = time.monotonic() + 180
        try:
            while not started.join(timeout=5) and time.monotonic() < deadline:
                pass
        except Exception as error:  # a worker's death fails the tests whose results it did not leave
            print(error)
        for process in started.processes:
            process.kill()
        yield made


def results(folder: Path, method: str, data: str) -> list[dict[str, Any]]:
    found = [torch.load(folder / f"{method}-{data}-{rank}.pt", weights_only=False) for rank in range(WORKERS)]
    assert [result.get("error") for result in found] == [None] * WORKERS
    return found


@pytest.mark.parametrize(("method", "data"), CASES)
def test_workers_stay_alike(method: str, data: str, folder: Path) -> None:
    first, second = results(folder, method, data)
    assert first["evaluations"] == second["evaluations"]
    assert list(first["weights"]) == list(second["weights"])
    assert all(torch.equal(values, second["weights"][name]) for name, values in first["weights"].items())


@pytest.mark.parametrize(("method", "data"), [case for case in CASES if case[0] != "increlora"])
def test_two_workers_train_what_one_does(method: str, data: str, folder: Path) -> None:
    two, one = results(folder, method, data)[0], train(spec(folder, method, data))
    for ours, theirs in zip(two["evaluations"], one["evaluations"], strict=True):
        assert ours["ranks"] == theirs["ranks"]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
    assert list(two["weights"]) == list(one["weights"])
    for name, theirs in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data", EXAMPLES)
def test_increloras_budget_is_kept(data: str, folder: Path) -> None:
    """Workers' importances are averaged, not their gradients: other layers may grow than with one worker."""
    totals = [
        (evaluation["step"], sum(evaluation["ranks"].values()))
        for evaluation in results(folder, "increlora", data)[0]["evaluations"]
    ]
    assert totals == [(2, 18), (4, 18), (6, 28), (8, 38), (10, 48), (12, 54)]
