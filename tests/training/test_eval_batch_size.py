"""Evaluation on a device with a simulated memory limit: the same numbers, from smaller batches."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training import gpu
from autorank.training.eval_batch_size import EvalBatchSize, decoding_batch
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun


def limited_pass(max_examples: int, sizes: list[int]) -> Any:
    """A forward pass that runs out of memory above `max_examples` examples."""

    def run(examples: np.ndarray) -> list[int]:
        sizes.append(len(examples))
        if len(examples) > max_examples:
            raise torch.OutOfMemoryError("out of memory")
        return [int(example) for example in examples]

    return run


def test_batches_are_halved_until_they_fit() -> None:
    batch_size, sizes = EvalBatchSize(), list[int]()
    batches = [np.arange(8), np.arange(8, 16), np.arange(16, 19)]
    results = [pair for pair in batch_size.map(batches, limited_pass(3, sizes))]
    assert [example for _, result in results for example in result] == list(range(19))
    assert all(list(examples) == result for examples, result in results)
    assert sizes == [8, 4] + 8 * [2] + [2, 1] and batch_size.limit == 2
    sizes.clear()
    list(batch_size.map(batches, limited_pass(3, sizes)))
    assert max(sizes) == 2  # the limit is remembered


class Output:
    """The output of a forward pass."""


def test_outputs_of_a_batch_are_freed_before_the_next_pass() -> None:
    batch_size, outputs = EvalBatchSize(), list[Any]()

    def run(examples: np.ndarray) -> Output:
        assert [reference() for reference in outputs] == [None] * len(outputs)
        output = Output()
        outputs.append(weakref.ref(output))
        return output

    for _, output in batch_size.map([np.arange(2)] * 3, run):
        assert isinstance(output, Output)
        del output
    assert len(outputs) == 3


def test_a_single_example_that_is_too_much() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(EvalBatchSize().map([np.arange(4)], limited_pass(0, [])))


TASKS: dict[str, dict[str, Any]] = {
    "pairs": {"text": ("left", "right"), "label": "label"},
    "questions": {"name": "squad_v1"},
    "texts": {"prompt": "asked", "completion": "told"},
}


def train_spec(task: str, tasks_folder: Path) -> TrainSpec:
    return TrainSpec(
        task=TaskSpec(**{"name": task, "data": tasks_folder / task} | TASKS[task]),
        model=str(tasks_folder / ("llama" if task == "texts" else "bert")),
        method="lora",
        settings={"rank": 4, "learning_rate": 1e-2},
        training=TrainingSpec(steps=6, batch_size=4, eval_every=3, precision="fp32"),
    )


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_fits(task: str, tasks_folder: Path) -> None:
    """The same scores, whatever fits; the next run with the same model cache does not run out of memory again."""
    spec = train_spec(task, tasks_folder)
    expected = [evaluation.metrics for evaluation in TrainingRun(spec, ModelCache("cpu"))]
    model_cache = ModelCache("cpu")
    refused: list[int] = []
    for _ in range(2):
        run = TrainingRun(spec, model_cache)
        run._open()
        run._base.model.register_forward_pre_hook(limit(5, refused), with_kwargs=True)
        run._prepare()
        actual = [evaluation.metrics for evaluation in run]
        # matrix products of other sizes round differently
        assert actual == [pytest.approx(metrics, rel=1e-6) for metrics in expected]
        run.release()
    assert refused and max(refused) > 5 and refused == sorted(set(refused), reverse=True)  # each size only once


@pytest.mark.parametrize("task", ["pairs", "questions"])
def test_evaluation_holds_one_batch_at_a_time(task: str, tasks_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluations, and when a method observes batches."""
    run = TrainingRun(train_spec(task, tasks_folder), ModelCache("cpu"))
    run._open()
    outputs: list[Any] = []

    def before(model: object, args: object) -> None:
        assert [reference() for reference in outputs] == [None] * len(outputs)

    def after(model: object, args: object, output: Any) -> None:
        outputs.extend(weakref.ref(values) for values in (output, *output.values()))

    run._base.model.register_forward_pre_hook(before)
    run._base.model.register_forward_hook(after)
    for module in ("objectives.labels", "objectives.spans", "run_loops"):
        monkeypatch.setattr(f"autorank.training.{module}.EVAL_BATCH", 4)
    run._objective.evaluate(run._loop, run._data.validation)
    count = len(outputs)
    assert run._context is not None
    run._context.observe(np.arange(20), lambda batch: None)
    assert count > 4 and len(outputs) > count + 4


def limit(max_examples: int, refused: list[int]) -> Any:
    def before(model: Any, args: object, inputs: dict[str, Any]) -> None:
        size = len(inputs["input_ids"] if "input_ids" in inputs else inputs["decoder_input_ids"])
        if size > max_examples:
            refused.append(size)
            raise torch.OutOfMemoryError("out of memory")

    return before


def test_prompts_decoded_together_fit_into_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, hidden_size=2048)
    config.get_text_config = lambda: config
    device, free = torch.device("cuda:0"), {"bytes": 0}
    monkeypatch.setattr("autorank.training.gpu.free_memory", lambda _: free["bytes"])
    prompt_bytes = 128 * 16 * 2 * 8 * 64 * 4  # tokens, layers, keys and values, heads, their width, bytes
    for prompts, expected in ((1, 1), (2, 1), (3, 1), (4, 2), (70, 32), (300, 128), (10**6, 256)):
        free["bytes"] = prompts * prompt_bytes
        assert decoding_batch(config, 128, device) == expected
    assert decoding_batch(config, 128, torch.device("cpu")) == 32
    del config.num_key_value_heads
    assert decoding_batch(config, 128, device) == 256
    free["bytes"] = 8 * prompt_bytes
    assert decoding_batch(config, 128, device) == 1  # four times as many heads


def test_free_memory_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("mem_get_info", (30, 100)), ("memory_allocated", 20), ("memory_reserved", 25)):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda _, value=value: value)
    assert gpu.free_memory(torch.device("cuda:0")) == 35
    monkeypatch.setattr(gpu, "_share", 0.5)
    assert gpu.free_memory(torch.device("cuda:0")) == 30
