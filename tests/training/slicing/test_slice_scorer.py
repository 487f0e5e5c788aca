"""Which slices a run scores, and that the adapter on disk scores the same when it is cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autorank.modeling import adapter_file, adapters, spectrum
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.tasks.metrics.outcomes import unpack
from autorank.tasks.metrics.resampling import resampled
from autorank.training.optimization import distributed
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.run import TrainingRun
from autorank.training.slicing.slice_scorer import next_count
from tests import tiny_language_models
from tests.trainables.conformance_runs import same

SIZES = {count: 100 * count for count in range(1, 65)}  # 64 components of 100 parameters


def scored_sizes(curve: Any, count: int, full_size: int = 6400) -> list[int]:
    """Parameters of the slices that are scored, in their order."""
    scores: dict[int, float] = {}
    order: list[int] = []
    while len(order) < count and (choice := next_count(SIZES, (full_size, curve(full_size)), scores)) is not None:
        order.append(SIZES[choice])
        scores[choice] = curve(SIZES[choice])
    return order


def test_sizes_are_sparse_first_and_then_where_the_score_changes() -> None:
    step_at_3000 = [scored_sizes(lambda size: 0.9 if size >= 3000 else 0.5, 9)]
    assert step_at_3000[0][:3] == [1600, 400, 100]
    assert all(1600 < size < 6400 for size in step_at_3000[0][3:])  # the jump is above a quarter
    assert 2900 in step_at_3000[0] or 3000 in step_at_3000[0]


def test_sizes_between_equal_scores_are_not_scored() -> None:
    assert scored_sizes(lambda size: 0.7, 20) == [1600, 400, 100]
    rising = scored_sizes(lambda size: math.log(size), 100)
    assert len(set(rising)) == len(rising) == 63  # all, each once


def test_no_slices_are_scored_above_one_that_beats_the_full_adapter() -> None:
    order = scored_sizes(lambda size: 0.8 if size >= 1600 and size < 6400 else 0.7, 20)
    assert all(size <= 1600 for size in order)


def test_an_adapter_with_one_smaller_size() -> None:
    sizes = {1: 100, 2: 200}
    assert next_count(sizes, (200, 0.5), {}) == 1
    assert next_count(sizes, (200, 0.5), {1: 0.4}) is None
    assert next_count({1: 100}, (100, 0.5), {}) is None
    assert next_count({}, (0, 0.5), {}) is None


def spec(
    method: str = "lora", slices: int | str = 3, settings: dict[str, Any] | None = None, **training: Any
) -> TrainSpec:
    return TrainSpec(
        task=TaskSpec(name="demo", max_train_examples=96, max_eval_examples=60),
        method=method,
        settings={"learning_rate": 5e-3} | (settings or {}),
        training=TrainingSpec(slices=slices, **{"steps": 12, "eval_every": 6, "batch_size": 8} | training),
    )  # fmt: skip


CUT = {
    "lora": {"rank": 4},
    "lora-drop": {"rank": 4, "threshold": 0.6},
    "adalora": {},
    "increlora": {},
    "pissa": {"rank": 4},
    "dora": {"rank": 4},
    "prilora": {"interval": 10},
    "sora": {},
    "rslora": {"rank": 4},
}
WITHOUT_SCHEDULE = {"lora", "lora-drop", "pissa", "dora", "rslora"}


def length(method: str) -> dict[str, int]:
    """A run with two evaluations, long enough for the method's schedule."""
    steps = 16 if method in WITHOUT_SCHEDULE else 40
    return {"steps": steps, "eval_every": steps // 2}


@pytest.mark.parametrize("method", CUT)
def test_a_slice_scores_what_the_adapter_on_disk_scores_when_it_is_cut(method: str, tmp_path: Path) -> None:
    run = TrainingRun(spec(method, settings=CUT[method], **length(method)))
    last = list(run)[-1]
    run.save_adapter(tmp_path / "adapter.safetensors")
    assert last.slices and [slice_.adapter_params for slice_ in last.slices] == sorted(
        {slice_.adapter_params for slice_ in last.slices}
    )
    for slice_ in last.slices:
        assert slice_.adapter_params < last.adapter_params
        restored, _ = adapter_file.load(tmp_path / "adapter.safetensors")
        spectrum.cut(restored.model, slice_.component_masks)
        assert adapters.adapter_params(restored.model, restored.head) == slice_.adapter_params
        assert adapters.ranks(restored.model) == slice_.ranks
        run._loop.model = restored.model
        assert run._objective.evaluate(run._loop, run._data.validation) == pytest.approx(slice_.metrics, abs=1e-6)
    run.release()


def test_no_slice_is_scored_above_the_limit() -> None:
    unlimited, limited = (
        list(TrainingRun(spec(slices=6).model_copy(update={"max_slice_params": limit})))[-1] for limit in (None, 3_000)
    )
    sizes = [slice_.adapter_params for slice_ in limited.slices]
    assert sizes and max(sizes) <= 3_000 < max(slice_.adapter_params for slice_ in unlimited.slices)
    assert (limited.score, limited.adapter_params) == (unlimited.score, unlimited.adapter_params)
    assert list(TrainingRun(spec().model_copy(update={"max_slice_params": 1})))[-1].slices == ()


def test_predictions_of_the_adapter_and_of_its_slices_give_their_scores() -> None:
    """A slice of a given size too, as a new training with another seed is cut."""
    run = TrainingRun(spec("lora", settings=CUT["lora"], steps=40, eval_every=20))
    for evaluation in run:
        models = unpack(evaluation.predictions)
        scores = [evaluation.score, *(slice_.score for slice_ in evaluation.slices)]
        unit_weights = np.ones((1, len(models[0])), np.float32)
        assert resampled(models, unit_weights)[0] == pytest.approx(scores, abs=1e-6) and len(scores) > 1
    rescored = run.with_slices(evaluation, [slice_.adapter_params for slice_ in evaluation.slices[::-1]])
    assert resampled(unpack(rescored.predictions), unit_weights)[0] == pytest.approx(
        [scores[0], *scores[:0:-1]], abs=1e-6
    )


@pytest.mark.parametrize("method", ["vera", "tied-lora", "bitfit", "full", "pfeiffer"])
def test_methods_without_slices(method: str) -> None:
    assert [evaluation.slices for evaluation in TrainingRun(spec(method))] == [(), ()]


SAME = [("lora", "energy"), ("lora", "input"), *((method, "gradient") for method in CUT)]


@pytest.mark.parametrize(("method", "score"), SAME)
def test_training_is_the_same_with_slices_and_without(method: str, score: str) -> None:
    """Bit for bit: weights, optimizer, state of the method, random numbers of the process and of the run."""

    def train(slices: int | str) -> tuple[dict[str, Any], torch.Tensor]:
        torch.manual_seed(7)
        run = TrainingRun(spec(method, slices, CUT[method], slice_score=score, **length(method)))
        evaluations = list(run)
        assert bool(evaluations[-1].slices) == (slices != "off")
        state = run.state_dict()
        for name in ("spec", "seconds", "spent_on_slices"):
            del state[name]
        run.release()
        return state, torch.rand(3)

    (with_slices, random_values), (without, expected) = train(2), train("off")
    assert same(with_slices, without)
    assert torch.equal(random_values, expected)


def test_slices_off_factorizes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "Spectrum", None)
    run = TrainingRun(spec(slices="off"))
    assert [evaluation.slices for evaluation in run] == [(), ()]
    assert run.state_dict()["spent_on_slices"] == 0


def test_auto_spends_a_fifth_of_training_and_resumes_with_the_remaining_budget() -> None:
    run = TrainingRun(spec(slices="auto", steps=60, eval_every=40))
    evaluations = [next(run)]
    state = run.state_dict()
    evaluations += list(run)
    scored = [len(evaluation.slices) for evaluation in evaluations]
    data = run._data
    training = 60 * 8 * 2 * float(data.train.lengths.mean())
    assert 0 < sum(scored) * sum(float(s.lengths.sum()) for s in data.validation.values()) <= 0.2 * training
    assert scored[-1] == max(scored) and scored[0] > 0
    resumed = TrainingRun(spec(slices="auto", steps=60, eval_every=40))
    resumed.load_state_dict(state)
    assert [evaluation.slices for evaluation in resumed] == [evaluation.slices for evaluation in evaluations[1:]]


def test_the_score_of_the_components_decides_what_is_kept_and_its_cost_counts() -> None:
    masks, spent = {}, {}
    for score in ("energy", "input", "gradient"):
        run = TrainingRun(spec(slices=1, slice_score=score, eval_every=12))
        (evaluation,) = run
        masks[score], spent[score] = evaluation.slices[0].component_masks, run.state_dict()["spent_on_slices"]
        length = float(run._data.train.lengths.mean())
    assert masks["input"] != masks["energy"] != masks["gradient"]
    assert spent["input"] - spent["energy"] == pytest.approx(64 * length)
    assert spent["gradient"] - spent["energy"] == pytest.approx(128 * length)


def test_every_slice_of_dora_has_a_component_in_each_layer() -> None:
    run = TrainingRun(spec("dora", slices=16, settings={"rank": 4}))
    last = list(run)[-1]
    assert last.slices and all(0 not in slice_.ranks.values() for slice_ in last.slices)
    fewest = min(slice_.adapter_params for slice_ in last.slices)
    assert run.with_slices(last, [fewest - 1]).slices[0].ranks == dict.fromkeys(last.ranks, 0)


def test_workers_have_the_budget_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    run = TrainingRun(spec(slices="auto"))
    next(run)
    alone, _ = run._slices._budget(12, last=True)
    monkeypatch.setattr(distributed, "count", lambda: 2)
    assert run._slices._budget(12, last=True)[0] == alone


def test_a_slice_of_a_given_size() -> None:
    run = TrainingRun(spec(slices="off"))
    last = list(run)[-1]
    assert last.slices == ()
    size = last.adapter_params // 5
    # a component has 64 + 64 parameters
    assert run.with_slices(last, [size]).slices[0].adapter_params == size // 128 * 128


def generation_run(folder: Path, slices: int | str) -> TrainingRun:
    tiny_language_models.data(folder / "data")
    return TrainingRun(
        TrainSpec(
            task=TaskSpec(name="keys", data=folder / "data", prompt="asked", completion="told", metric="rougeL"),
            model=tiny_language_models.model("llama", folder / "model"),
            method="lora",
            settings={"targets": "all-linear", "learning_rate": 1e-2, "rank": 8},
            training=TrainingSpec(steps=40, batch_size=16, eval_every=40, precision="fp32", slices=slices),
        )
    )


@pytest.mark.usefixtures("own_cache")
def test_text_is_generated_only_for_sizes_that_no_smaller_one_beats_in_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = generation_run(tmp_path, 2)
    losses: list[float] = []
    mean_loss = OptimizationLoop.mean_loss
    monkeypatch.setattr(
        OptimizationLoop, "mean_loss", lambda loop, splits: losses.append(mean_loss(loop, splits)) or losses[-1]
    )
    (evaluation,) = run
    assert len(losses) == 1 + 4 * 2  # the full adapter, and four sizes for each slice
    assert 1 <= len(evaluation.slices) <= 2
    (split,) = run._data.validation.values()
    one_by_one = [
        run._base.model(**tiny_language_models.library_batch(batch)).loss
        for batch in (collate(split, np.array([i]), run._data.pad_id) for i in range(len(split)))
    ]
    expected = np.average([loss.item() for loss in one_by_one], weights=split.weights)
    assert losses[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("own_cache")
def test_slices_cost_more_where_text_is_generated(tmp_path: Path) -> None:
    run = generation_run(tmp_path, "auto")
    (evaluation,) = run
    (split,) = run._data.validation.values()
    cost = float(split.lengths.sum()) + 8 * len(split) * int(split.weights.max())
    budget = 0.2 * 40 * 16 * 2 * float(run._data.train.lengths.mean())
    assert len(evaluation.slices) * cost <= run.state_dict()["spent_on_slices"] <= budget
