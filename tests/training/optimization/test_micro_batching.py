"""Micro-batches found by trial, on a device that runs out of memory when we say so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training import gpu
from autorank.training.optimization import micro_batching
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.micro_batching import MicroBatching
from autorank.training.run import TrainingRun
from autorank.training.run_setup import memory_trial
from tests import tiny


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingRun:
    """An opened run, eight examples a step."""
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for split, size in (("train", 40), ("validation", 8)):
        tiny.pairs_file(tmp_path / "data" / f"{split}.jsonl", size, seed=size)
    model = tiny.model("bert", tmp_path / "model")
    task = TaskSpec(name="own", data=tmp_path / "data", text=("left", "right"), label="label")
    opened = TrainingRun(
        TrainSpec(task=task, model=model, method="lora", training=TrainingSpec(batch_size=8, accumulate="auto"))
    )
    opened._open()
    return opened


def limited(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let batches of more than `most` examples run out of memory; returns the sizes that were tried."""
    tried: list[int] = []
    loss = run._phase.loss

    def limit(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        tried.append(len(batch["input_ids"]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("out of memory")
        return loss(batch)

    monkeypatch.setattr(run._phase, "loss", limit)
    return tried


def estimated(run: TrainingRun, layers: dict[str, Any]) -> int:
    """The number found by trying plain LoRA."""
    with micro_batching.plain_lora(run._phase, layers):
        return micro_batching.fewest_micro_batches(run._phase, 0, Hooks())


def test_the_micro_batch_is_halved_until_it_fits(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    before = {name: p.clone() for name, p in run._base.model.named_parameters()}
    tried = limited(run, monkeypatch, 3)
    assert estimated(run, run._context.layers) == 4 and tried == [8, 4, 2]
    assert not adapters.adapted(run._base.model)
    after = dict(run._base.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) and after[name].grad is None for name in before)


def test_the_longest_examples_are_tried(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    widths: list[int] = []
    loss = run._phase.loss
    monkeypatch.setattr(run._phase, "loss", lambda batch: widths.append(batch["input_ids"].shape[1]) or loss(batch))
    assert estimated(run, run._context.layers) == 1
    assert widths == [run._phase.split.lengths.max()]


def test_methods_without_adapted_layers_keep_all_activations(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases, bottlenecks: with nothing attached a backward pass would end at the head."""
    seen: list[int] = []
    loss = run._phase.loss
    model = run._base.model
    monkeypatch.setattr(run._phase, "loss", lambda batch: seen.append(len(adapters.adapted(model))) or loss(batch))
    assert estimated(run, {}) == 1
    assert seen == [6 * tiny.LAYERS] and not adapters.adapted(model)


def test_one_example_that_does_not_fit_is_an_error(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    limited(run, monkeypatch, 0)
    with pytest.raises(AutorankError, match=r"Not even one example of \d+ tokens fits.*--gradient-checkpointing"):
        estimated(run, run._context.layers)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU, by its properties."""
    found = SimpleNamespace(name="a GPU", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    return found


def test_the_estimate_is_cached(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run._context is not None
    tried = limited(run, monkeypatch, 4)

    def number() -> int:
        return MicroBatching(run._phase, 1000, tmp_path / "kept", ["key"]).estimate(run._context.layers)

    assert [number(), number()] == [2, 2] and tried == [8, 4]
    device.total_memory *= 2
    assert number() == 2 and len(tried) == 4  # another device is tried anew
    monkeypatch.setattr(gpu, "_share", 0.5)
    assert number() == 2 and len(tried) == 4  # half of it is as much as the first has


def test_a_number_that_was_too_small_is_doubled(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run._micro_batching = MicroBatching(run._phase, 1000, run._model_cache.probes, ["key"])
    numbers = []

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError

    for _ in range(3):
        numbers.append(run._micro_batching.estimate(run._context.layers))
        with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
            patch.setattr(run._phase, "step", out_of_memory)
            run._train_step()
    assert numbers == [1, 2, 4]


def test_on_a_cpu_a_step_is_whole(run: TrainingRun) -> None:
    assert run._phase.plan.accumulate == 1


def test_trainable_parameters_take_memory_too(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Full fine-tuning: 18 bytes a parameter. What differs by little is not tried again."""
    held: list[int] = []
    empty = torch.empty

    def noted(*size: int, **given: Any) -> torch.Tensor:
        if given.get("dtype") == torch.uint8:
            held.append(*size)
        return empty(*size, **given)

    monkeypatch.setattr(torch, "empty", noted)
    for trained in (1, 1000, 2**28 // 18, 2**28 // 18 + 1, 10**8):
        MicroBatching(run._phase, trained, tmp_path / "kept", ["key"]).estimate(run._context.layers)
    assert held == [2**28, 2 * 2**28, 7 * 2**28]
    assert 6 * 2**28 < 18 * 10**8 < 7 * 2**28


def test_the_key_of_a_cached_estimate(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[object]] = []

    class Noted:
        def __init__(self, phase: object, trained: int, kept: Path, key: list[object]) -> None:
            tried.append([trained, *key])

    monkeypatch.setattr("autorank.training.run_setup.MicroBatching", Noted)
    variants: list[dict[str, Any]] = [{}, {"seed": 5}, {"warmup_ratio": 0.3, "epochs": 7}, {"precision": "bf16"}]
    for given in variants:
        training = run.spec.training.model_copy(update={"precision": "fp32"} | given)
        other = TrainingRun(run.spec.model_copy(update={"training": training}), run._model_cache)
        other._open()
        memory_trial(other.spec, other._method, other._phase, other._base, other._data, other._model_cache)
    plain, seed, longer, less = tried
    assert plain == seed == longer != less
    assert plain[0] == 8 * 2 * tiny.LAYERS * 2 * tiny.HIDDEN + run._base.head_params


def test_the_prepared_method_is_tried_in_its_most_expensive_step(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IncreLoRA's is one that is scored; the trial leaves training as it was."""
    settings = {"targets": "all-linear", "mean_rank": 2, "interval": 2}
    spec = run.spec.model_copy(update={"method": "increlora", "settings": settings})
    plain = [evaluation.train_loss for evaluation in TrainingRun(spec, run._model_cache)]
    tried = TrainingRun(spec, run._model_cache)
    tried.begin()
    micro_batches = MicroBatching(tried._phase, 1000, run._model_cache.probes, ["key"])
    scored: list[bool] = []
    loss = tried._phase.loss

    def noted(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        scored.append(tried._method._importance.watching)
        return loss(batch)

    with monkeypatch.context() as patch:
        patch.setattr(tried._phase, "loss", noted)
        assert micro_batches.measure(tried._hooks, ["increlora"], 2) == 2
    assert scored == [True] and not tried._method._importance.watching
    assert [evaluation.train_loss for evaluation in tried] == plain
