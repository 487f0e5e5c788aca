"""Packed trials, without Ray: results and files are those of trials alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.searching.ray.actors.packed_trials import PackedTrials
from autorank.searching.ray.actors.recorded_run import RecordedRun
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.training.packing.pack import Pack
from tests.trainables import conformance_runs

EVERY = 6  # steps between evaluations


def config(workspace: Path, number: int, method: str = "lora", **values: Any) -> dict[str, Any]:
    """The config of a trial with rank `number + 1` that is evaluated three times."""
    settings = values.pop("settings", {"rank": number + 1} if method == "lora" else {})
    if method == "lora":
        settings = settings | {"dropout": 0.0}
    train = conformance_runs.spec(workspace, method, settings, "plain", steps=3 * EVERY, eval_every=EVERY)
    return {"number": number, "train": train, "recorded": 0} | values


def train_alone(folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of a trial that is trained alone."""
    trial = bind(WarmTrial, folder=folder)(config)
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return results


def finish(trials: PackedTrials, configs: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Train all trials to their ends and return their results."""
    results: dict[str, list[dict[str, Any]]] = {lane: [] for lane in configs}
    configs = dict(configs)
    while configs:
        for lane, result in trials.advance(configs).items():
            results[lane].append(result)
            if result["done"]:
                del configs[lane]
    return results


def assert_equal(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Check that results are equal up to rounding."""
    assert [result["finished"] for result in actual] == [result["finished"] for result in expected]
    for evaluation, reference in zip(
        (r["evaluation"] for r in actual), (r["evaluation"] for r in expected), strict=True
    ):
        assert (evaluation.step, evaluation.adapter_params, evaluation.ranks) == (
            reference.step,
            reference.adapter_params,
            reference.ranks,
        )
        assert evaluation.metrics == pytest.approx(reference.metrics, rel=1e-4, nan_ok=True)
        assert evaluation.train_loss == pytest.approx(reference.train_loss, rel=1e-4)


def packed_trials(folder: Path) -> PackedTrials:
    return PackedTrials(folder, conformance_runs.cache())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "trials").rglob("*.*")}


def test_packed_trials_equal_trials_alone(workspace: Path, tmp_path: Path) -> None:
    """Trials of three methods, in results and files."""
    configs = {
        str(number): config(workspace, number, method) for number, method in enumerate(["lora", "increlora", "bitfit"])
    }
    results = finish(packed_trials(tmp_path / "packed"), configs)
    for lane, trial in configs.items():
        assert_equal(results[lane], train_alone(tmp_path / "alone", trial))
    assert files(tmp_path / "packed") == files(tmp_path / "alone")
    assert [results[lane][0].get("alone") for lane in configs] == [None, None, "it trains no low-rank updates"]


def test_a_stopped_trial_leaves_and_another_joins(workspace: Path, tmp_path: Path) -> None:
    trials = packed_trials(tmp_path / "packed")
    configs = {lane: config(workspace, number) for number, lane in enumerate("abc")}
    first = trials.advance({"a": configs["a"], "b": configs["b"]})
    assert set(first) == {"a", "b"} and not first["a"]["done"]
    continued = finish(trials, {"a": configs["a"], "c": configs["c"]})
    assert_equal([first["a"], *continued["a"]], train_alone(tmp_path / "alone", configs["a"]))
    assert_equal(continued["c"], train_alone(tmp_path / "alone", configs["c"]))
    assert not trials._runs and not trials._pack.lanes


@pytest.mark.parametrize("recorded", [0, 1, 2])
def test_trials_continue_from_their_checkpoints(workspace: Path, tmp_path: Path, recorded: int) -> None:
    """In another process; evaluations that were not recorded are reported first."""
    trials = {lane: config(workspace, number) for number, lane in enumerate("ab")}
    before = packed_trials(tmp_path)
    results: dict[str, list[dict[str, Any]]] = {lane: [] for lane in trials}
    for _ in range(2):
        for lane, result in before.advance(trials).items():
            results[lane].append(result)
    resumed = {lane: trial | {"recorded": recorded * EVERY} for lane, trial in trials.items()}
    continued = finish(packed_trials(tmp_path), resumed)
    for lane, trial in trials.items():
        assert_equal(results[lane][:recorded] + continued[lane], train_alone(tmp_path / "alone", trial))


def test_a_trial_that_was_not_called_for_a_while_continues(workspace: Path, tmp_path: Path) -> None:
    trials = packed_trials(tmp_path / "packed")
    a, b = config(workspace, 0), config(workspace, 1)
    first = trials.advance({"a": a, "b": b})["b"]
    trials.advance({"a": a | {"recorded": EVERY}})
    continued = finish(trials, {"b": b | {"recorded": EVERY}})["b"]
    assert_equal([first, *continued], train_alone(tmp_path / "alone", b))


def test_a_trial_that_has_ended_is_not_trained_again(workspace: Path, tmp_path: Path) -> None:
    trial = config(workspace, 0)
    finish(packed_trials(tmp_path), {"a": trial})
    result = packed_trials(tmp_path).advance({"a": trial | {"recorded": 3 * EVERY}})["a"]
    assert result["done"] and "evaluation" not in result


def test_failed_trials_do_not_affect_the_others(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that a method refuses, a training that diverges, a file that cannot be written, lack of memory."""
    configs = {
        "good": config(workspace, 0),
        "refused": config(workspace, 1, settings={"rank": 0}),
        "diverges": config(workspace, 2, settings={"rank": 2, "learning_rate": 1e30}),
        "unwritten": config(workspace, 3),
    }
    (tmp_path / "packed" / "trials").mkdir(parents=True)
    (tmp_path / "packed" / "trials" / "3").touch()  # where its directory should be
    results = finish(packed_trials(tmp_path / "packed"), configs)
    assert_equal(results["good"], train_alone(tmp_path / "alone", configs["good"]))
    reasons = {lane: trial_results[-1].get("failed", "") for lane, trial_results in results.items()}
    assert "rank" in reasons["refused"] and "diverged" in reasons["diverges"]
    assert reasons["unwritten"].startswith(("FileExistsError", "NotADirectoryError"))
    assert not any(results[lane][-1]["out_of_memory"] for lane in configs if lane != "good")


def test_lack_of_memory_is_reported(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Pack, "_pass", exhausted)
    results = finish(packed_trials(tmp_path), {lane: config(workspace, number) for number, lane in enumerate("ab")})
    assert [trial_results[-1]["out_of_memory"] for trial_results in results.values()] == [True, True]


def test_an_error_of_the_whole_pack_fails_only_its_trials(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, later = packed_trials(tmp_path), config(workspace, 2)
    trials.advance({lane: config(workspace, number) for number, lane in enumerate("ab")})

    def broken(pack: Pack) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Pack, "advance", broken)
        results = trials.advance({lane: config(workspace, number) for number, lane in enumerate("ab")})
    assert [result["failed"] for result in results.values()] == ["RuntimeError: broken"] * 2
    assert_equal(finish(trials, {"c": later})["c"], train_alone(tmp_path / "alone", later))


def test_a_lost_gpu_context_is_raised(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*args: Any) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Pack, "_pass", lost)
    with pytest.raises(torch.AcceleratorError):
        packed_trials(tmp_path).advance({"a": config(workspace, 0)})


def test_a_confirmation_ends_before_its_run(workspace: Path, tmp_path: Path) -> None:
    """Only its last evaluation has a score, and slices of the requested sizes; no adapter is written."""
    trial = config(workspace, 3, until=2 * EVERY, sizes=[200, 300])
    results = finish(packed_trials(tmp_path / "packed"), {"a": trial, "b": config(workspace, 0)})["a"]
    assert_equal(results, train_alone(tmp_path / "alone", trial))
    assert len(results) == 2 and len(results[-1]["evaluation"].slices) == 2
    assert files(tmp_path / "packed") >= {"trials/3/run.pt"} and not list(
        (tmp_path / "packed").rglob("3/*.safetensors")
    )


def test_an_error_of_one_trial_that_joins_fails_this_trial_alone(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a repeated training that resumes at its last step runs out of memory while its slices are scored."""
    unreported = RecordedRun.unreported

    def exhausted(run: RecordedRun) -> dict[str, Any] | None:
        if run.run.spec.settings["rank"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return unreported(run)

    monkeypatch.setattr(RecordedRun, "unreported", exhausted)
    trials = packed_trials(tmp_path)
    results = finish(trials, {"a": config(workspace, 0), "b": config(workspace, 1)})
    assert [result["out_of_memory"] for result in results["b"]] == [True]
    assert len(results["a"]) == 3 and results["a"][-1]["finished"]
