"""Micro-batch sizes found by trial, on a device with a simulated memory limit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.splits.tokenized import Split
from autorank.training import gpu
from autorank.training.optimization import micro_batching
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.micro_batching import MicroBatching
from autorank.training.run import TrainingRun
from autorank.training.run_setup import micro_batching_of
from tests import tiny_models


@pytest.fixture
def run(tmp_path: Path, own_cache: Path) -> TrainingRun:
    """An opened run, eight examples a step."""
    tiny_models.pairs_folder(tmp_path / "data", 40, 8)
    model = tiny_models.model("bert", tmp_path / "model")
    task = TaskSpec(name="own", data=tmp_path / "data", text=("left", "right"), label="label")
    opened = TrainingRun(
        TrainSpec(task=task, model=model, method="lora", training=TrainingSpec(batch_size=8, accumulate="auto"))
    )
    opened._open()
    return opened


def limit_memory(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, max_examples: int) -> list[int]:
    """Let batches of more than `max_examples` examples run out of memory; returns the sizes that were tried."""
    sizes: list[int] = []
    loss = run._loop.loss

    def limit(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > max_examples:
            raise torch.OutOfMemoryError("out of memory")
        return loss(batch)

    monkeypatch.setattr(run._loop, "loss", limit)
    return sizes


def estimate(run: TrainingRun, layers: dict[str, Any]) -> int:
    """The number of micro-batches, estimated with plain LoRA."""
    with micro_batching.plain_lora(run._loop, layers):
        return micro_batching.fewest_micro_batches(run._loop, 0, Hooks())


def test_the_examples_with_the_most_predicted_tokens_must_fit_too() -> None:
    """Their logits may need more memory than the longest examples."""
    lengths, weights = np.array([9, 7, 8, 3]), np.array([1, 5, 1, 2])

    def measured(weights: np.ndarray) -> list[list[int]]:
        split = cast(Split, SimpleNamespace(lengths=lengths, weights=weights))
        return [examples.tolist() for examples in micro_batching._most_expensive(split, 2)]

    assert measured(weights) == [[0, 2], [1, 3]] and measured(np.ones(4)) == [[0, 2]]


def test_memory_that_runs_out_while_a_method_prepares_counts(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[bool] = []

    def prepare(context: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(run._method, "prepare", prepare)
    context, run._context = run._context, None
    monkeypatch.setattr(run, "_open", lambda: setattr(run, "_context", context))
    monkeypatch.setattr(run, "need_less_memory", lambda: noted.append(True))
    with pytest.raises(torch.OutOfMemoryError):
        run.start()
    assert noted == [True]


def test_the_micro_batch_is_halved_until_it_fits(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    before = {name: p.clone() for name, p in run._base.model.named_parameters()}
    sizes = limit_memory(run, monkeypatch, 3)
    assert estimate(run, run._context.layers) == 4 and sizes == [8, 4, 2]
    assert not adapters.adapted(run._base.model)
    after = dict(run._base.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) and after[name].grad is None for name in before)


def test_the_longest_examples_are_tried(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    widths: list[int] = []
    loss = run._loop.loss
    monkeypatch.setattr(run._loop, "loss", lambda batch: widths.append(batch["input_ids"].shape[1]) or loss(batch))
    assert estimate(run, run._context.layers) == 1
    assert widths == [run._loop.split.lengths.max()]


def test_methods_without_adapted_layers_keep_all_activations(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases, bottlenecks: without adapted layers the backward pass would end at the head."""
    adapted_counts: list[int] = []
    loss = run._loop.loss
    model = run._base.model
    monkeypatch.setattr(
        run._loop, "loss", lambda batch: adapted_counts.append(len(adapters.adapted(model))) or loss(batch)
    )
    assert estimate(run, {}) == 1
    assert adapted_counts == [6 * tiny_models.LAYERS] and not adapters.adapted(model)


def test_one_example_that_does_not_fit_is_an_error(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    limit_memory(run, monkeypatch, 0)
    with pytest.raises(AutorankError, match=r"Not even one example of \d+ tokens fits.*--gradient-checkpointing"):
        estimate(run, run._context.layers)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The properties of a simulated GPU."""
    properties = SimpleNamespace(name="a GPU", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return properties


def test_the_estimate_is_cached(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run._context is not None
    sizes = limit_memory(run, monkeypatch, 4)

    def number() -> int:
        return MicroBatching(run._loop, 1000, tmp_path / "kept", ["key"]).estimate(run._context.layers)

    assert [number(), number()] == [2, 2] and sizes == [8, 4]
    device.total_memory *= 2
    assert number() == 2 and len(sizes) == 4  # another device is measured separately
    monkeypatch.setattr(gpu, "_share", 0.5)
    assert number() == 2 and len(sizes) == 4  # half of its memory equals that of the first device


def test_a_number_that_was_too_small_is_doubled(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run._micro_batching = MicroBatching(run._loop, 1000, run._model_cache.probes, ["key"])
    numbers = []

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError

    for _ in range(3):
        numbers.append(run._micro_batching.estimate(run._context.layers))
        with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
            patch.setattr(run._loop, "step", out_of_memory)
            run.train_step()
    assert numbers == [1, 2, 4]


def test_memory_is_reserved_for_adapters_that_are_larger_at_first(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reserved: list[int] = []
    monkeypatch.setattr(micro_batching, "RESERVED_MEMORY_GRANULARITY", 1)
    monkeypatch.setattr(micro_batching, "fewest_micro_batches", lambda loop, size, *_: reserved.append(size) or 1)
    at_the_end = 10
    plan = MicroBatching(run._loop, at_the_end, tmp_path / "kept", ["key"])
    assert run._context is not None
    plan.estimate(run._context.layers)
    plan.measure(Hooks(), ["name"], 1)
    trained = sum(p.numel() for p in run._base.model.parameters() if p.requires_grad)
    # values and gradients (8 bytes) are part of a measured pass
    assert reserved == [at_the_end * 18, trained * (18 - 8)] and trained > at_the_end


def test_on_a_cpu_a_step_is_not_split(run: TrainingRun) -> None:
    assert run._loop.plan.accumulate == 1


def test_trainable_parameters_take_memory_too(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Full fine-tuning: 18 bytes per parameter. Similar parameter counts are not tried again."""
    allocated: list[int] = []
    empty = torch.empty

    def record(*size: int, **options: Any) -> torch.Tensor:
        if options.get("dtype") == torch.uint8:
            allocated.append(*size)
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", record)
    for trained in (1, 1000, 2**28 // 18, 2**28 // 18 + 1, 10**8):
        MicroBatching(run._loop, trained, tmp_path / "kept", ["key"]).estimate(run._context.layers)
    assert allocated == [2**28, 2 * 2**28, 7 * 2**28]
    assert 6 * 2**28 < 18 * 10**8 < 7 * 2**28


def test_the_key_of_a_cached_estimate(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[list[object]] = []

    class RecordedMicroBatching:
        def __init__(self, loop: object, trained: int, probes: Path, key: list[object]) -> None:
            keys.append([trained, *key])

    monkeypatch.setattr("autorank.training.run_setup.MicroBatching", RecordedMicroBatching)
    variants: list[dict[str, Any]] = [{}, {"seed": 5}, {"warmup_ratio": 0.3, "epochs": 7}, {"precision": "bf16"}]
    for changes in variants:
        training = run.spec.training.model_copy(update={"precision": "fp32"} | changes)
        variant = TrainingRun(run.spec.model_copy(update={"training": training}), run._model_cache)
        variant._open()
        micro_batching_of(variant.spec, variant._method, variant._loop, variant._base, ["content"], Path())
    default, seed, longer, half_precision = keys
    assert default == seed == longer != half_precision
    assert default[0] == 8 * 2 * tiny_models.LAYERS * 2 * tiny_models.HIDDEN + run._base.head_params


def test_the_prepared_method_is_tried_in_its_most_expensive_step(
    run: TrainingRun, device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For IncreLoRA that is a step that measures importance; the trial does not change training."""
    settings = {"targets": "all-linear", "mean_rank": 2, "interval": 2}
    spec = run.spec.model_copy(update={"method": "increlora", "settings": settings})
    expected = [evaluation.train_loss for evaluation in TrainingRun(spec, run._model_cache)]
    prepared = TrainingRun(spec, run._model_cache)
    prepared.start()
    micro_batches = MicroBatching(prepared._loop, 1000, run._model_cache.probes, ["key"])
    scored: list[bool] = []
    loss = prepared._loop.loss

    def record(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        scored.append(prepared._method._importance.watching)
        return loss(batch)

    with monkeypatch.context() as patch:
        patch.setattr(prepared._loop, "loss", record)
        assert micro_batches.measure(prepared._hooks, ["increlora"], 2) == 2
    assert scored == [True] and not prepared._method._importance.watching
    assert [evaluation.train_loss for evaluation in prepared] == expected
