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
from autorank.training import micro_batching
from autorank.training.run import TrainingRun
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


def test_as_few_as_fit(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    before = {name: p.clone() for name, p in run._base.model.named_parameters()}
    tried = limited(run, monkeypatch, 3)
    assert micro_batching.fewest(run._phase, run._context.layers, 0) == 4 and tried == [8, 4, 2]
    assert not adapters.adapted(run._base.model)
    after = dict(run._base.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) and after[name].grad is None for name in before)


def test_the_longest_examples_are_tried(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    widths: list[int] = []
    loss = run._phase.loss
    monkeypatch.setattr(run._phase, "loss", lambda batch: widths.append(batch["input_ids"].shape[1]) or loss(batch))
    assert micro_batching.fewest(run._phase, run._context.layers, 0) == 1
    assert widths == [run._phase.split.lengths.max()]


def test_what_adapts_no_layer_keeps_the_activations_of_all(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases, bottlenecks: with nothing attached a backward pass would end at the head."""
    seen: list[int] = []
    loss = run._phase.loss
    model = run._base.model
    monkeypatch.setattr(run._phase, "loss", lambda batch: seen.append(len(adapters.adapted(model))) or loss(batch))
    assert micro_batching.fewest(run._phase, {}, 0) == 1
    assert seen == [6 * tiny.LAYERS] and not adapters.adapted(model)


def test_not_even_one(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._context is not None
    limited(run, monkeypatch, 0)
    with pytest.raises(AutorankError, match=r"Not even one example of \d+ tokens fits.*--gradient-checkpointing"):
        micro_batching.fewest(run._phase, run._context.layers, 0)


def test_it_is_kept(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run._context is not None
    device = SimpleNamespace(name="a GPU", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    tried = limited(run, monkeypatch, 4)
    for _ in range(2):
        assert micro_batching.micro_batches(run._phase, run._context.layers, 1000, tmp_path / "kept", ["key"]) == 2
    assert tried == [8, 4]
    device.total_memory *= 2
    micro_batching.micro_batches(run._phase, run._context.layers, 1000, tmp_path / "kept", ["key"])
    assert len(tried) == 4  # another device is tried anew


def test_on_a_cpu_a_step_is_whole(run: TrainingRun) -> None:
    assert run._phase.plan.accumulate == 1


def test_what_trains_takes_memory_too(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Full fine-tuning: 18 bytes a parameter. What differs by little is not tried again, nor is another seed."""
    assert run._context is not None
    device = SimpleNamespace(name="a GPU", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    held: list[int] = []
    empty = torch.empty

    def noted(*size: int, **given: Any) -> torch.Tensor:
        if given.get("dtype") == torch.uint8:
            held.append(*size)
        return empty(*size, **given)

    monkeypatch.setattr(torch, "empty", noted)
    for trained in (1, 1000, 2**28 // 18, 2**28 // 18 + 1, 10**8):
        micro_batching.micro_batches(run._phase, run._context.layers, trained, tmp_path / "kept", ["key"])
    assert held == [2**28, 2 * 2**28, 7 * 2**28]
    assert 6 * 2**28 < 18 * 10**8 < 7 * 2**28


def test_what_the_number_depends_on(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[object]] = []

    def micro_batches(phase: object, layers: object, trained: int, kept: Path, key: list[object]) -> int:
        asked.append([trained, *key])
        return 2

    monkeypatch.setattr(micro_batching, "micro_batches", micro_batches)
    variants: list[dict[str, Any]] = [{}, {"seed": 5}, {"warmup_ratio": 0.3, "epochs": 7}, {"precision": "bf16"}]
    for given in variants:
        training = run.spec.training.model_copy(update={"precision": "fp32"} | given)
        other = TrainingRun(run.spec.model_copy(update={"training": training}), run._model_cache)
        other._open()
        assert other._micro_batches(other._phase, {}) == 2
    plain, seed, longer, less = asked
    assert plain == seed == longer != less
    assert plain[0] == 8 * 2 * tiny.LAYERS * 2 * tiny.HIDDEN + run._base.head_params
