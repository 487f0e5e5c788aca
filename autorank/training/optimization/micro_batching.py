"""Measures with how many micro-batches a step fits into GPU memory, and stores the number for similar runs.

There are two measurements: one with plain LoRA before the method prepares, because some methods train or process
examples while they prepare; and one with the prepared model and the method's most expensive step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autorank import atomic_io, cache
from autorank.errors import AutorankError
from autorank.modeling import adapters, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.tasks.splits.tokenized import Split
from autorank.training import gpu
from autorank.training.optimization import distributed
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.loop import OptimizationLoop

RANK = 8  # rank of plain LoRA in the measurement; most memory is used by activations
BYTES_PER_TRAINED_PARAM = 18  # per trained parameter: value, gradient and two moments in float32, and autocast's copy
MEASURED_BYTES = 8  # of these, value and gradient, which a measured pass has itself
# memory of trained parameters is rounded up to a multiple of this, so that similar settings share a measurement
RESERVED_MEMORY_GRANULARITY = 2**28


class MicroBatching:
    """The number of micro-batches of a run on a GPU.

    Args:
        loop: The loop of the run, over the whole training set.
        trained: Maximum number of trained parameters at the end of the run.
        folder: Directory in which numbers are stored, by `key`, the name of the device, the memory that this process
            may use, the number of workers, and the arguments of the measurement.
        key: Identifies data, model, precision and everything else that activations depend on.
    """

    def __init__(self, loop: OptimizationLoop, trained: int, folder: Path, key: list[Any]) -> None:
        self._loop, self._folder, self._reserved = loop, folder, reserved_memory(trained)
        device = [torch.cuda.get_device_properties(loop.device).name, gpu.memory_limit(loop.device)]
        self._key = [*key, *device, distributed.count(), loop.plan.batch_size, self._reserved]
        self._file: Path | None = None

    def estimate(self, layers: Mapping[str, nn.Module]) -> int:
        """Measure with plain LoRA.

        Args:
            layers: The layers that will be adapted; empty: all layers, because other methods need all activations.

        Returns:
            The fewest micro-batches with which a step over the longest examples fits, a power of two.

        Raises:
            AutorankError: Not even one example at a time fits.
        """

        def find() -> int:
            with plain_lora(self._loop, layers):
                return fewest_micro_batches(self._loop, self._reserved, Hooks())

        return self._stored(sorted(layers), find)

    def measure(self, hooks: Hooks, method: list[Any], parts: int) -> int:
        """Measure with the prepared model.

        Args:
            hooks: The hooks of the method.
            method: Its name, and the settings that memory depends on.
            parts: Micro-batches to begin with.

        Returns:
            The number of micro-batches, as from `estimate`.
        """
        layers = sorted(adapters.adapted(self._loop.model))
        trained = sum(p.numel() for p in self._loop.model.parameters() if p.requires_grad)
        needed = max(self._reserved, reserved_memory(trained))  # some methods begin with larger adapters
        reserved = max(0, needed - trained * MEASURED_BYTES)
        key = [method, layers, needed]
        return self._stored(key, lambda: fewest_micro_batches(self._loop, reserved, hooks, parts))

    def double(self) -> None:
        """Double the stored number for the next run, because memory ran out in spite of the measurement."""
        if self._file is not None and self._file.exists():
            _write(self._file, 2 * int(self._file.read_text()))

    def _stored(self, key: list[Any], find: Callable[[], int]) -> int:
        file = self._folder / f"micro-batches-{cache.key([self._key, key])}"
        missing = torch.tensor(float(not file.exists()), device=self._loop.device)
        if distributed.sum_(missing):  # a worker lacks it
            _write(file, find())
        self._file = file
        return int(file.read_text())


def _write(file: Path, number: int) -> None:
    with atomic_io.writing(file) as partial:
        partial.write_text(str(number))


def reserved_memory(trained: int) -> int:
    """Memory of trained parameters, in bytes, without activations."""
    return -(-trained * BYTES_PER_TRAINED_PARAM // RESERVED_MEMORY_GRANULARITY) * RESERVED_MEMORY_GRANULARITY


@contextmanager
def plain_lora(loop: OptimizationLoop, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Attach plain LoRA to these layers, or to all layers if there are none, within this context."""
    draw = torch.Generator().manual_seed(0)
    for name, layer in (layers or target_modules.linear_layers(loop.model)).items():
        update = LowRankUpdate.lora(*target_modules.features(layer), RANK, RANK, draw, loop.device)
        adapters.attach(loop.model, name, update)
    try:
        yield
    finally:
        adapters.detach_all(loop.model)


def fewest_micro_batches(loop: OptimizationLoop, reserved: int, hooks: Hooks, parts: int = 1) -> int:
    """Find the smallest number of micro-batches that fit: `parts`, twice as many, and so on.

    Args:
        loop: The loop of the run.
        reserved: Bytes that are set aside for trained parameters.
        hooks: The hooks of the method.
        parts: Micro-batches to begin with.

    Returns:
        The number of micro-batches.

    Raises:
        AutorankError: Not even one example at a time fits.
    """
    share = -(-loop.plan.batch_size // distributed.count())  # examples of a step on one worker
    while not _fits(loop, reserved, hooks, -(-share // parts), parts):
        if parts >= share:
            longest = int(loop.split.lengths.max())
            raise AutorankError(
                f"Not even one example of {longest} tokens fits into the memory of {loop.device}. Use a lower "
                "--max-length, --gradient-checkpointing, --quantize 4bit or a smaller --model."
            )
        parts *= 2
    return parts


def _fits(loop: OptimizationLoop, reserved: int, hooks: Hooks, examples: int, parts: int) -> bool:
    """Whether a forward and a backward pass of the most expensive examples fit into memory on all workers."""
    loop.model.train()
    too_much = 0.0
    block = None
    try:
        block = torch.empty(reserved, dtype=torch.uint8, device=loop.device)
        for most_expensive in _most_expensive(loop.split, examples):
            batch = loop.inputs(most_expensive)
            with hooks.most_memory(batch, parts):
                loop.loss(batch).backward()
    except torch.OutOfMemoryError:
        too_much = 1.0
    del block
    loop.model.zero_grad(set_to_none=True)
    if loop.device.type == "cuda":
        torch.cuda.empty_cache()
    return not distributed.sum_(torch.tensor(too_much, device=loop.device))


def _most_expensive(split: Split, examples: int) -> list[np.ndarray]:
    """The longest examples, and those with the most predicted tokens, whose logits need memory too, if these differ."""
    longest, most_predicted = (
        np.argsort(-values, kind="stable")[:examples] for values in (split.lengths, split.weights)
    )
    return [longest] if split.weights.min() == split.weights.max() else [longest, most_predicted]
