"""Text generation: a training step and greedy decoding of a Llama with a billion parameters."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from autorank.training.objectives.generation import GenerationObjective
from autorank.training.run import TrainingRun
from benchmarks.gpu.workload import Options, RandomCache, pairs, task_data, train_spec

BATCHES = (32, 128)  # prompts that are decoded together
PROMPT, COMPLETION = 64, 64  # tokens
WARM, TIMED = 3, 5  # steps


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for training, and one per batch size of decoding."""
    shape, batches = ("tiny-llama", (2,)) if options.tiny else ("llama-1b", BATCHES)
    length = 8 if options.tiny else PROMPT
    data = task_data(pairs(32, length, length), pairs(max(batches), length, length, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        spec = train_spec(
            "lora", {"rank": 16}, "e2e", steps=8, batch_size=4 if options.tiny else 16, eval_every=8,
        )  # fmt: skip
        run = TrainingRun(spec, RandomCache(shape, data, options.device, Path(folder)))
        run.start()
        for _ in range(WARM):
            run.train_step()
        seconds = [time_call(run.train_step, options) for _ in range(TIMED)]
        yield {"case": f"training {shape}", "ms per step": 1e3 * statistics.median(seconds)}
        for batch in batches:
            if options.late:
                yield {"case": f"decoding {batch}", "not run": "no time left"}
                continue
            yield decoding(run, batch, length, options)
        run.release()


def decoding(run: TrainingRun, batch: int, length: int, options: Options) -> dict[str, Any]:
    """Time to write a completion of full length for each of `batch` prompts."""
    objective = cast(GenerationObjective, run._objective)
    prompts: Any = next(iter(run._data.validation.values())).take(torch.arange(batch).numpy())
    texts: list[str] | None = []

    def write() -> None:
        nonlocal texts
        texts = objective.write(run._loop, prompts, length, batch)

    if not options.tiny:
        write()  # warm
    seconds = time_call(write, options)
    return {
        "case": f"decoding {batch}x{length}", "seconds": seconds, "ms per token": 1e3 * seconds / length,
        "tokens per second": batch * length / seconds, "ok": texts is not None and len(texts) == batch,
    }  # fmt: skip


def time_call(call: Any, options: Options) -> float:
    """Seconds of a call, the GPU's work included."""
    if options.cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if options.cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
