"""Time of K trials in one pack and of the same trials one after the other, on this machine.

    python -m benchmarks.speed.packing --lanes 4 --shape tiny-bert --batch 16 --length 64

Random weights; LoRA of rank 8 on query and value in bf16 on a GPU, float32 on a CPU. Steps of both kinds take turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from autorank.modeling.devices import default_device
from autorank.training import gpu
from autorank.training.packing.pack import Pack
from autorank.training.run import TrainingRun
from benchmarks.gpu import workload
from benchmarks.gpu.__main__ import register_methods

ROUNDS, WARM_UP = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--shape", default="tiny-bert", choices=workload.SHAPES)
    parser.add_argument("--layers", type=int, help="number of layers, in place of those of the shape")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    options = parser.parse_args()
    register_methods()
    family, size = workload.SHAPES[options.shape]
    if options.layers:
        workload.SHAPES[options.shape] = family, size | {"num_hidden_layers": options.layers}
    pack_seconds, separate_seconds = measure(options.lanes, options.shape, options.batch, options.length)
    print(f"{options.lanes} trials, {options.shape}, {options.batch} x {options.length}, a step of each:")
    print(
        f"in a pack {1000 * pack_seconds:.1f} ms, one after the other {1000 * separate_seconds:.1f} ms, "
        f"ratio {pack_seconds / separate_seconds:.2f}"
    )


def measure(lanes: int, shape: str, batch: int, length: int) -> tuple[float, float]:
    """The median time of a step of all trials, in seconds: in a pack, and one after the other."""
    device = default_device()
    data = workload.task_data(workload.examples(20 * batch, length, length), workload.examples(8, length, length, 1))
    specs = [
        workload.train_spec(
            "lora", {"targets": "attention-qv", "learning_rate": 1e-3 / (1 + lane)}, steps=1000, batch_size=batch,
            eval_every=1000, accumulate=1,
        )
        for lane in range(lanes)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:

        def cache() -> workload.RandomCache:
            return workload.RandomCache(shape, data, device, Path(folder))

        pack = Pack(cache())
        for spec in specs:
            pack.join(spec)
        runs = [TrainingRun(spec, cache()) for spec in specs]
        for run in runs:
            run.start()

        def steps() -> None:
            for run in runs:
                run.train_step()

        times: list[tuple[float, float]] = []
        for _ in range(WARM_UP + ROUNDS):
            times.append((time_call(pack.step, device), time_call(steps, device)))
        packed, single = (sorted(column)[ROUNDS // 2] for column in zip(*times[WARM_UP:], strict=True))
        return packed, single


def time_call(call: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call, including what it started on the device."""
    gpu.wait(device)
    started = time.perf_counter()
    call()
    gpu.wait(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
