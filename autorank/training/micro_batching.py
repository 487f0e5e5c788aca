"""How many micro-batches a step is cut into so that it fits: found by trial once, and kept for the runs to come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.modeling import adapters, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.tasks.data.batches import collate
from autorank.training import distributed
from autorank.training.optimization_loop import OptimizationLoop, to_device

RANK = 8  # of the updates that are tried; what takes the memory is activations
BYTES = 18  # of a trained parameter: its value, its gradient and two moments in float32, and autocast's copy
STEP = 2**28  # bytes to which what training takes is rounded up, so that settings that differ a little ask once


def micro_batches(
    phase: OptimizationLoop, layers: Mapping[str, nn.Module], trained: int, kept: Path, key: list[Any]
) -> int:
    """Find the smallest number of micro-batches, a power of two, with which a step of the longest examples fits.

    Args:
        phase: phase of the run, without updates.
        layers: layers that will be adapted; empty: the activations of all layers are needed.
        trained: maximum number of trained parameters.
        kept: directory in which the number is stored.
        key: JSON values that identify data, model and precision.

    Returns:
        The number of micro-batches.

    Raises:
        AutorankError: a single example does not fit.
    """
    properties = torch.cuda.get_device_properties(phase.device)
    device = [properties.name, properties.total_memory, distributed.count()]
    taken = reserve(trained)
    name = json.dumps([key, sorted(layers), phase.plan.batch_size, taken, *device])
    file = kept / f"micro-batches-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    if not distributed.sum_(torch.tensor(float(not file.exists()), device=phase.device)):  # every worker has it
        return int(file.read_text())
    found = fewest(phase, layers, taken)
    with atomic_io.writing(file) as partial:
        partial.write_text(str(found))
    return found


def reserve(trained: int) -> int:
    """Bytes that so many trained parameters take, activations apart."""
    return -(-trained * BYTES // STEP) * STEP


def fewest(phase: OptimizationLoop, layers: Mapping[str, nn.Module], taken: int) -> int:
    """Find the number of micro-batches by trial.

    Args:
        phase: phase of the run, without updates.
        layers: see `micro_batches`.
        taken: bytes that are reserved for parameters.

    Returns:
        The number of micro-batches.

    Raises:
        AutorankError: a single example does not fit.
    """
    share = -(-phase.plan.batch_size // distributed.count())  # examples of a step on one worker
    parts = 1
    while not _fits(phase, layers, taken, -(-share // parts)):
        if parts >= share:
            longest = int(phase.split.lengths.max())
            raise AutorankError(
                f"Not even one example of {longest} tokens fits into the memory of {phase.device}. Use a lower "
                "--max-length, --gradient-checkpointing, --quantize 4bit or a smaller --model."
            )
        parts *= 2
    return parts


def _fits(phase: OptimizationLoop, layers: Mapping[str, nn.Module], taken: int, examples: int) -> bool:
    """Whether forward and backward pass of so many of the longest examples fit, on all workers."""
    draw = torch.Generator().manual_seed(0)
    for name, layer in (layers or target_modules.linear_layers(phase.model)).items():
        update = LowRankUpdate.lora(*target_modules.features(layer), RANK, RANK, draw, phase.device)
        adapters.attach(phase.model, name, update)
    phase.model.train()
    longest = np.argsort(-phase.split.lengths, kind="stable")[:examples]
    too_much = 0.0
    held = None
    try:
        held = torch.empty(taken, dtype=torch.uint8, device=phase.device)
        phase.loss(to_device(collate(phase.split, longest, phase.pad_id), phase.device)).backward()
    except torch.OutOfMemoryError:
        too_much = 1.0
    del held
    adapters.detach_all(phase.model)
    phase.model.zero_grad(set_to_none=True)
    if phase.device.type == "cuda":
        torch.cuda.empty_cache()
    return not distributed.sum_(torch.tensor(too_much, device=phase.device))
