"""Lanes of a pack equal runs alone, for every method that trains low-rank updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autorank.errors import AutorankError
from autorank.run_context import RunContext
from autorank.spec import TrainSpec
from autorank.training.evaluation import Evaluation
from autorank.training.optimization.forward_passes import ForwardPasses
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.packing.lane import Lane
from autorank.training.packing.lane_rows import LaneRows
from autorank.training.packing.pack import Pack, Result
from autorank.training.run import TrainingRun
from tests.trainables import conformance_runs
from tests.trainables.cases import LOW_RANK, METHODS, VARIANTS

ROUNDING = 1e-4  # relative, of weights after a full training
NO_DROPOUT = {name: {"dropout": 0.0} for name in METHODS if "dropout" in METHODS[name].settings}


def spec(workspace: Path, name: str, settings: dict[str, Any] | None = None, **training: Any) -> TrainSpec:
    settings = NO_DROPOUT.get(name, {}) | (settings or {})
    return conformance_runs.spec(workspace, name, settings, "plain", **{"eval_every": 8} | training)


def train_alone(train_spec: TrainSpec) -> tuple[list[Evaluation], dict[str, Tensor]]:
    run = TrainingRun(train_spec, conformance_runs.cache())
    return list(run), conformance_runs.weights(run)


def finish(pack: Pack) -> dict[Lane, list[Result]]:
    """Train until all lanes are finished."""
    results: dict[Lane, list[Result]] = {lane: [] for lane in pack.lanes}
    while now := pack.advance():
        for lane, result in now.items():
            results.setdefault(lane, []).append(result)
    return results


def assert_equal(lane: Lane, results: list[Result], expected: tuple[list[Evaluation], dict[str, Tensor]]) -> None:
    evaluations, weights = expected
    assert [type(result) for result in results] == [Evaluation] * len(evaluations), results
    for result, evaluation in zip(results, evaluations, strict=True):
        assert isinstance(result, Evaluation)
        assert (result.step, result.adapter_params, result.ranks) == (
            evaluation.step,
            evaluation.adapter_params,
            evaluation.ranks,
        )
        assert result.metrics == pytest.approx(evaluation.metrics, rel=ROUNDING)
        assert result.train_loss == pytest.approx(evaluation.train_loss, rel=ROUNDING)
    assert_close(conformance_runs.weights(lane), weights)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Weights are equal to rounding, except those that softmax does not see."""
    assert actual.keys() == expected.keys()
    for name, value in conformance_runs.functional(actual).items():
        assert value.shape == expected[name].shape
        if value.numel() and name != "qa_outputs.bias":
            assert (value - expected[name]).abs().max() <= ROUNDING * expected[name].abs().max(), name


@pytest.mark.parametrize("name", LOW_RANK)
def test_a_lane_equals_a_run_alone(workspace: Path, name: str) -> None:
    """Packed with two other lanes, one of the same method."""
    settings = [{}, {"learning_rate": 3e-3}]
    pack = Pack(conformance_runs.cache())
    lanes = [pack.join(spec(workspace, name, extra)) for extra in settings]
    pack.join(spec(workspace, "lora", {"rank": 3}))
    results = finish(pack)
    for lane, extra in zip(lanes, settings, strict=True):
        assert_equal(lane, results[lane], train_alone(spec(workspace, name, extra)))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_equals_a_run_alone(workspace: Path, name: str) -> None:
    method, settings = VARIANTS[name]
    pack = Pack(conformance_runs.cache())
    lane = pack.join(spec(workspace, method, settings))
    pack.join(spec(workspace, "lora", {"rank": 1}))
    assert_equal(lane, finish(pack)[lane], train_alone(spec(workspace, method, settings)))


def test_gradients_of_a_step(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For different methods and ranks, with nonzero updates."""
    train_specs = [
        spec(workspace, "lora", {"rank": 3}), spec(workspace, "gora", {"reference_rank": 1}),
        spec(workspace, "sparse-adapter"), spec(workspace, "pissa"), spec(workspace, "dora"), spec(workspace, "vera"),
    ]  # fmt: skip
    recorded: list[dict[str, Tensor]] = []

    def record(loop: OptimizationLoop, step: int, hooks: Hooks) -> None:
        recorded.append({n: p.grad.clone() for n, p in loop.model.named_parameters() if p.grad is not None})
        loop.optimizer.zero_grad()

    monkeypatch.setattr(OptimizationLoop, "update", record)
    pack = Pack(conformance_runs.cache())
    for train_spec in train_specs:
        pack.join(train_spec)
    pack.step()
    packed, recorded[:] = list(recorded), []
    for train_spec in train_specs:
        run = TrainingRun(train_spec, conformance_runs.cache())
        run.start()
        run.train_step()
    for actual, expected in zip(packed, recorded, strict=True):
        assert actual.keys() == expected.keys() and any(grad.any() for grad in expected.values())
        largest = max(float(grad.abs().max()) for grad in expected.values())
        for name, grad in expected.items():
            assert (actual[name] - grad).abs().max() <= 1e-6 * max(1.0, largest), name


def test_lanes_join_and_leave(workspace: Path) -> None:
    """A lane that joins later is at another step than the others, and its batches are those of its own steps."""
    first, second, third = spec(workspace, "lora"), spec(workspace, "increlora"), spec(workspace, "prilora")
    pack = Pack(conformance_runs.cache())
    lanes = [pack.join(first), pack.join(second)]
    results: dict[Lane, list[Result]] = {lane: [result] for lane, result in pack.advance().items()}
    pack.leave(lanes[1])
    lanes.append(pack.join(third))
    for lane, later_results in finish(pack).items():
        results.setdefault(lane, []).extend(later_results)
    assert len(results[lanes[1]]) == 1
    assert_equal(lanes[0], results[lanes[0]], train_alone(first))
    assert_equal(lanes[2], results[lanes[2]], train_alone(third))


@pytest.mark.parametrize("name", ["increlora", "adalora", "prilora"])
def test_resumed_in_a_pack_and_alone(workspace: Path, name: str) -> None:
    """The state of a lane is that of a run alone: both a lane and a run can resume from it."""
    train_spec = spec(workspace, name)
    evaluations, weights = train_alone(train_spec)
    pack = Pack(conformance_runs.cache())
    lane = pack.join(train_spec)
    pack.join(spec(workspace, "lora", {"rank": 1}))
    first = pack.advance()[lane]
    state = lane.state_dict()
    pack.leave(lane)
    resumed = pack.join(train_spec, state)
    assert_equal(resumed, [first, *finish(pack)[resumed]], (evaluations, weights))
    run = TrainingRun(train_spec, conformance_runs.cache())
    run.load_state_dict(state)
    assert [evaluation.step for evaluation in run] == [evaluation.step for evaluation in evaluations[1:]]
    assert_close(conformance_runs.weights(run), weights)


def test_a_failing_lane_does_not_touch_the_others(workspace: Path) -> None:
    """The method of one lane raises, and another lane diverges."""
    train_spec = spec(workspace, "lora")
    pack = Pack(conformance_runs.cache())
    lane, broken = pack.join(train_spec), pack.join(spec(workspace, "lora", {"rank": 3}))
    diverging = pack.join(spec(workspace, "lora", {"rank": 4, "learning_rate": 1e30}))

    def after_step(run: RunContext) -> None:
        if run.step == 5:
            raise ValueError("broken")

    broken._method.after_step = after_step  # type: ignore[method-assign]
    results = finish(pack)
    assert [str(result) for result in results[broken]] == ["broken"]
    assert [type(result) for result in results[diverging]] == [AutorankError]
    assert pack.lanes == [lane]
    assert_equal(lane, results[lane], train_alone(train_spec))


def test_lanes_that_do_not_fit_together_are_passed_in_groups(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that does not fit alone fails, with an error of memory, and the others go on together."""
    train_specs = [spec(workspace, "lora", {"rank": rank}) for rank in (1, 2, 3, 4)]
    pack = Pack(conformance_runs.cache())
    lanes = [pack.join(train_spec) for train_spec in train_specs]
    original_pass, sizes = Pack._pass, []

    def limited_pass(pack: Pack, chosen: list[Lane], number: int) -> None:
        sizes.append(len(chosen))
        if len(chosen) > 2 or lanes[3] in chosen:
            raise torch.OutOfMemoryError
        original_pass(pack, chosen, number)

    monkeypatch.setattr(Pack, "_pass", limited_pass)
    results = finish(pack)
    assert isinstance(results[lanes[3]][0], torch.OutOfMemoryError)
    assert (sizes[0], sizes.count(3), sizes[-2:]) == (4, 1, [2, 1])
    for lane, train_spec in zip(lanes[:3], train_specs[:3], strict=True):
        assert_equal(lane, results[lane], train_alone(train_spec))


def test_methods_without_low_rank_updates_train_alone(workspace: Path) -> None:
    train_specs = [spec(workspace, name) for name in ("full", "bitfit", "houlsby")]
    pack = Pack(conformance_runs.cache())
    lanes = [pack.join(train_spec) for train_spec in [*train_specs, spec(workspace, "lora")]]
    assert [lane.reason_alone is None for lane in lanes] == [False, False, False, True]
    results = finish(pack)
    for lane, train_spec in zip(lanes, train_specs, strict=False):
        assert_equal(lane, results[lane], train_alone(train_spec))


def test_another_model_is_refused(workspace: Path) -> None:
    pack = Pack(conformance_runs.cache())
    pack.join(spec(workspace, "lora"))
    with pytest.raises(AutorankError, match="same task, model"):
        pack.join(spec(workspace, "lora", precision="bf16"))


def test_lanes_are_evaluated_in_the_same_passes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a joint pass fails, every lane is evaluated alone."""
    train_specs = [spec(workspace, name, steps=8) for name in ("lora", "adalora", "dora")]
    passes, outputs = [], ForwardPasses.outputs
    monkeypatch.setattr(ForwardPasses, "outputs", lambda *args: passes.append(0) or outputs(*args))  # type: ignore[func-returns-value]
    for fails in (False, True):
        passes.clear()
        if fails:
            monkeypatch.setattr(LaneRows, "split_outputs", broken_outputs(LaneRows.split_outputs))
        pack = Pack(conformance_runs.cache())
        lanes = [pack.join(train_spec) for train_spec in train_specs]
        results = pack.advance()
        assert len(passes) == (3 if fails else 0)
        for lane, train_spec in zip(lanes, train_specs, strict=True):
            assert_equal(lane, [results[lane]], train_alone(train_spec))


def broken_outputs(split: Any) -> Any:
    """`LaneRows.split_outputs` that fails in evaluations."""

    def broken(rows: LaneRows, *args: Any) -> Any:
        if not torch.is_grad_enabled():
            raise RuntimeError("broken")
        return split(rows, *args)

    return broken
