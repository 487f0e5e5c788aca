"""Wall time, GPU time and kernel launches of a training step, ours and PEFT's in turns."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.workload import Options
from benchmarks.speed import contenders

SIZES = ((16, 16), (16, 64), (32, 128))  # examples and tokens of a step
# shape, targets, and contenders, each set in the same run
CASES = (
    ("roberta-base", "attention-qv", ("lora", contenders.BASELINE, "dora", contenders.PEFT_DORA)),
    ("deberta-v3-base", "all-linear", ("increlora", contenders.BASELINE, "adalora", contenders.PEFT_ADALORA)),
)
WARM, TIMED = 4, 20
STEPS = 3450  # of the schedule (published: AdaLoRA on MRPC); IncreLoRA computes no scores in the first ones


def run(options: Options) -> Iterator[dict[str, Any]]:
    """One row per contender and size."""
    cases = (("minilm", "attention-qv", ("lora", contenders.BASELINE)),) if options.tiny else CASES
    warm, timed = (1, 2) if options.tiny else (WARM, TIMED)
    for shape, targets, names in cases:
        for batch, length in ((2, 8),) if options.tiny else SIZES:
            case = f"{shape} {targets} {batch}x{length}"
            if options.late:
                yield {"case": case, "not run": "no time left"}
                continue
            yield from time_contenders(case, shape, targets, names, batch, length, warm, timed, options)


def time_contenders(
    case: str, shape: str, targets: str, names: tuple[str, ...], batch: int, length: int, warm: int, timed: int,
    options: Options,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Time the contenders in turns, step by step."""
    case_options = Namespace(
        shape=shape, targets=targets, rank=8, batch=batch, length=length, steps=STEPS,
        precision="bf16" if options.cuda else "fp32",
    )  # fmt: skip
    steps = {name: contenders.make(name, case_options, options.device) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1, warm + timed + 1):
        for name in names:
            wait(options)
            started = time.perf_counter()
            steps[name](number)
            wait(options)
            seconds[name].append(time.perf_counter() - started)
    for name in names:
        row = {"case": case, "contender": name, "wall ms": 1e3 * statistics.median(seconds[name][warm:])}
        if options.cuda:
            row |= profile_step(steps[name], warm + timed + 1)
        yield row


def profile_step(step: contenders.Step, number: int) -> dict[str, float]:
    """Time that the GPU computes in a step, and its kernel launches."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step(number)
        torch.cuda.synchronize()
    kernels = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    copies = [event for event in kernels if event.name.startswith("Mem")]
    busy = sum(event.time_range.elapsed_us() for event in kernels)
    return {"GPU ms": busy / 1e3, "launches": len(kernels) - len(copies), "copies": len(copies)}


def wait(options: Options) -> None:
    """Wait for the GPU."""
    if options.cuda:
        torch.cuda.synchronize()
