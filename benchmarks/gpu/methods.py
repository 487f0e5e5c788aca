"""Every method on tiny models on the GPU, against the same runs on the CPU."""

from __future__ import annotations

import io
import math
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.training.run import TrainingRun
from benchmarks.gpu.workload import Options, RandomCache, examples, losses, task_data, train_spec
from tests.trainables.cases import METHODS, STEPS

MODELS = ("tiny-bert", "tiny-deberta", "tiny-llama")
EVERY = 4  # steps between evaluations
LIMITS = {
    "loss": 1e-2,
    "gradient": 2e-3,
    "resumed": 1e-3,
    "checkpointing": 1e-2,
    "bf16": 0.1,
}  # largest allowed differences
SMALL = 0.1  # losses below it are compared by their absolute difference
WATCHED_STEPS = 4  # steps in which synchronizations are recorded
OVERFLOWING = 2.0**26  # a loss scale with which gradients overflow in fp16
DATA = task_data(examples(40, 6, 24), examples(20, 6, 24, seed=1))


def run(options: Options) -> Iterator[dict[str, Any]]:
    """Check each method on each model; one row per method and model."""
    models = MODELS[:1] if options.tiny else MODELS
    names = ("lora", "increlora") if options.tiny else tuple(METHODS)
    for name in names:
        for shape in models:
            if options.late:
                yield {"case": f"{name} {shape}", "not run": "no time left"}
                continue
            yield check(name, shape, options)


def check(name: str, shape: str, options: Options) -> dict[str, Any]:
    """Compare a method on a model with the CPU, and run it in every precision."""
    row: dict[str, Any] = {"case": f"{name} {shape}", "ok": True}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            row |= compare(name, shape, options, Path(folder))
        except Exception as error:
            row |= {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return row | {"seconds": round(time.monotonic() - started, 1)}


def compare(name: str, shape: str, options: Options, folder: Path) -> dict[str, Any]:
    """All checks of a method on a model."""

    def start(device: str = options.device.type, **overrides: Any) -> TrainingRun:
        settings = {key: value for key, value in METHODS[name].settings.items() if key != "dropout"}
        training: dict[str, Any] = {
            "steps": STEPS,
            "batch_size": 8,
            "eval_every": EVERY,
            "precision": "fp32",
        } | overrides
        # devices have separate probes; but EVA's draws from the device's generator
        probes = folder / ("cpu" if name == "eva" else device)
        cache = RandomCache(shape, DATA, torch.device(device), probes)
        return TrainingRun(train_spec(name, settings, **training), cache)

    reference, run = start("cpu"), start()
    try:
        reference.start()
    except AutorankError as error:  # a method that does not fit the architecture says so
        return {"refused": str(error).splitlines()[0]}
    expected_gradients, gradients = map(first_gradients, (reference, run))
    expected = losses(reference)
    first_losses = losses(run, STEPS // EVERY // 2)
    state = io.BytesIO()
    torch.save(run.state_dict(), state)
    all_losses = first_losses + losses(run)
    resumed = start()
    resumed.load_state_dict(torch.load(io.BytesIO(state.getvalue()), weights_only=True))
    differences: dict[str, Any] = {
        "loss": distance(all_losses, expected),
        "gradient": gradient_distance(gradients, expected_gradients),
        "resumed": distance(losses(resumed), all_losses[len(first_losses) :]),
        "checkpointing": distance(losses(start(gradient_checkpointing=True)), all_losses),
        "bf16": distance(losses(start(precision="bf16")), expected),
    }
    passed = all(differences[name] <= limit for name, limit in LIMITS.items())
    row = differences | {"mask": run._base.mask_form}
    row |= {"ok": passed and adapter_file_matches(run, folder / "adapter.safetensors")}
    if options.cuda:
        skipped, finite = overflow(start(precision="fp16"))
        row |= {"skipped in fp16": skipped, "ok": row["ok"] and finite and skipped > 0}
        row["synchronized at"] = dict(synchronizations(start(precision="bf16", eval_every=STEPS)))
    return row


def first_gradients(run: TrainingRun) -> dict[str, Tensor]:
    """Gradients of the first step, filled in when it is trained."""
    run.start()
    gradients: dict[str, Tensor] = {}
    before_step = run._hooks.before_step

    def record_gradients() -> None:
        if run.step == 0:
            for name, parameter in run._base.model.named_parameters():
                if parameter.grad is not None:
                    gradients[name] = parameter.grad.float().cpu().clone()
        before_step()

    run._hooks.before_step = record_gradients  # type: ignore[method-assign]
    return gradients


def distance(values: list[float], expected: list[float]) -> float:
    """Largest difference, relative to the expected value or `SMALL`, whichever is larger."""
    if len(values) != len(expected) or not all(map(math.isfinite, values)):
        return math.inf
    return max(
        abs(value - reference) / max(abs(reference), SMALL) for value, reference in zip(values, expected, strict=True)
    )


def gradient_distance(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients, relative to their norm."""
    if gradients.keys() != expected.keys():
        return math.inf
    difference = sum(float((gradients[name] - value).square().sum()) for name, value in expected.items())
    return math.sqrt(difference / sum(float(value.square().sum()) for value in expected.values()))


def adapter_file_matches(run: TrainingRun, file: Path) -> bool:
    """Whether the adapter's file has the values of the model."""
    run.save_adapter(file)
    values = adapters.tensors(run._base.model, active_only=True)
    stored = load_file(file)
    return all(torch.equal(stored[name], values[name].detach().cpu()) for name in stored)


def overflow(run: TrainingRun) -> tuple[int, bool]:
    """Steps that were skipped for overflow, and whether training recovered."""
    run.start()
    run._loop.scaler._init_scale = OVERFLOWING
    counts = Counter[str]()
    after_step = run._hooks.after_step

    def count() -> None:
        counts["steps"] += 1
        after_step()

    run._hooks.after_step = count  # type: ignore[method-assign]
    values = losses(run)
    return STEPS - counts["steps"], all(map(math.isfinite, values))


def synchronizations(run: TrainingRun) -> Counter[str]:
    """Code locations that wait for the GPU in a few steps after the first, with their counts."""
    run.start()
    locations = Counter[str]()
    for step in range(2 * WATCHED_STEPS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn" if step >= WATCHED_STEPS else "default")
            try:
                run.train_step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        for warning in caught:
            if "called a synchronizing" in str(warning.message):
                locations[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    run.release()
    return locations
