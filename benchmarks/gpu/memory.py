"""Memory: the choice of `--accumulate auto`, memory that a trial does not free, and recovery from out of memory."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from autorank.training.run import TrainingRun
from benchmarks.gpu.workload import Options, RandomCache, examples, losses, task_data, train_spec

GIB = 2**30
# shape, method and its settings, examples of a step, tokens
CASES: list[tuple[str, str, dict[str, Any], int, int]] = [
    ("roberta-base", "lora", {"targets": "attention-qv"}, 128, 512),
    ("roberta-base", "dora", {}, 128, 512),
    ("deberta-v3-base", "increlora", {"mean_rank": 4, "interval": 1, "score_window": "all"}, 64, 512),
    ("llama-1b", "lora", {"rank": 16}, 32, 1024),
    ("llama-1b", "increlora", {"mean_rank": 4, "interval": 1, "score_window": "all"}, 32, 1024),
    ("roberta-base", "full", {}, 128, 512),
]
SHARES = (1.0, 0.25)  # shares of the GPU's memory that the process may use
FOR_ONE_EXAMPLE = 400 * 2**20  # bytes for a step of one example; too few for an evaluation of all at once
SMALL_SHARE = 0.04  # share that is too small for a whole step


def run(options: Options) -> Iterator[dict[str, Any]]:
    """One row per case and share of the memory, then recovery from out of memory."""
    if options.tiny:
        yield {"case": "lora tiny-bert"} | train("tiny-bert", "lora", {}, 8, 24, 1.0, options)
        return
    cases = [partial(recovery, options), *(partial(train, *case, share, options) for share in SHARES for case in CASES)]
    names = ["out of memory", *(f"{c[1]} {c[0]} {c[3]}x{c[4]} share {share:g}" for share in SHARES for c in CASES)]
    for name, case in zip(names, cases, strict=True):
        if options.late:
            yield {"case": name, "not run": "no time left"}
            continue
        try:
            yield {"case": name} | case()
        except Exception as error:
            yield {"case": name, "ok": False, "error": f"{type(error).__name__}: {error}"}
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        clean()


def train(
    shape: str, method: str, settings: dict[str, Any], batch: int, length: int, share: float, options: Options
) -> dict[str, Any]:
    """Train a few steps with `--accumulate auto`, evaluate once, and measure the memory."""
    if options.cuda:
        torch.cuda.set_per_process_memory_fraction(share)
    bytes_before = allocated_bytes(options)
    with tempfile.TemporaryDirectory() as folder:
        run = start(shape, method, settings, batch, length, options, Path(folder), accumulate="auto")
        losses(run)
        row: dict[str, Any] = {"micro-batches": run._loop.plan.accumulate, "ok": True}
        if options.cuda:
            limit = share * torch.cuda.get_device_properties(options.device).total_memory
            row |= {"peak GiB": torch.cuda.max_memory_allocated() / GIB, "limit GiB": limit / GIB}
        run.release()
    del run
    clean()
    row["left MiB"] = (allocated_bytes(options) - bytes_before) / 2**20
    return row | {"ok": row["left MiB"] < 64}


def start(
    shape: str, method: str, settings: dict[str, Any], batch: int, length: int, options: Options, folder: Path,
    **training: Any,
) -> TrainingRun:  # fmt: skip
    """A run of a few steps over examples of almost one length; padding decides the form of the mask."""
    steps = 12 if method == "increlora" else 4  # it has a schedule
    data = task_data(examples(2 * batch, length - 1, length), examples(64, length - 1, length, seed=1))
    if method == "increlora":
        settings = {"top_h": 1000} | settings
    spec = train_spec(method, settings, batch_size=batch, steps=steps, eval_every=steps, **training)
    return TrainingRun(spec, RandomCache(shape, data, options.device, folder))


def recovery(options: Options) -> dict[str, Any]:
    """Out of memory in training is raised and leaves nothing behind; in evaluation the batch is halved."""
    torch.cuda.set_per_process_memory_fraction(SMALL_SHARE)
    bytes_before = allocated_bytes(options)
    raised = False
    with tempfile.TemporaryDirectory() as folder:
        run = start("roberta-base", "lora", {}, 512, 512, options, Path(folder), accumulate=1)
        try:
            losses(run)
        except torch.OutOfMemoryError:
            raised = True
        run.release()
        del run
        clean()
        left_mib = (allocated_bytes(options) - bytes_before) / 2**20
        small_run = start("roberta-base", "lora", {}, 1, 512, options, Path(folder), accumulate=1)
        small_run.start()
        clean()
        total = torch.cuda.get_device_properties(options.device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + FOR_ONE_EXAMPLE) / total)
        losses(small_run)  # its evaluation of 64 examples needs more memory than its steps
        batch_limit = small_run._model_cache.eval_batch_size.limit
    del small_run
    clean()
    return {
        "ok": raised and left_mib < 64, "left MiB": left_mib,
        "evaluation batch": "as given" if batch_limit > 64 else batch_limit,
    }  # fmt: skip


def allocated_bytes(options: Options) -> int:
    """Bytes of tensors on the GPU."""
    return torch.cuda.memory_allocated() if options.cuda else 0


def clean() -> None:
    """Free unreferenced memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
