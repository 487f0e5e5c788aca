"""Train every method for a few steps on the fake CUDA device and report what would fail on a GPU.

    python -m benchmarks.fake_cuda [MODEL ...]      # tiny-bert, tiny-deberta, tiny-llama; default: all

An operation whose tensors are on different devices raises an error, as on a GPU. Each line has the kernels of a
training step and the lines of code in which it waits for the GPU. The exit status is 1 if a method fails.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from benchmarks import fake_cuda

STEPS = 8  # trained steps; schedules begin within them
PRECISION = "bf16"


def main(models: list[str]) -> int:
    fake_cuda.load()
    from benchmarks.gpu.__main__ import register_methods
    from tests.trainables.cases import METHODS

    register_methods()
    failures = 0
    for model in models or ["tiny-bert", "tiny-deberta", "tiny-llama"]:
        for method in METHODS:
            try:
                line = fake_cuda.apart(trained, model, method, METHODS[method].settings)
                print(f"{model} {method}: {line}", flush=True)
            except Exception as error:
                if "bitfit has nothing to train" in str(error):
                    print(f"{model} {method}: refused")
                    continue
                failures += 1
                traceback.print_exc()
                print(f"{model} {method}: FAILED", flush=True)
    return 1 if failures else 0


def trained(model: str, method: str, settings: dict[str, Any]) -> str:
    """Train a few steps, the schedule's first events among them; describe the last step."""
    from autorank.training.run import TrainingRun
    from benchmarks.fake_cuda.recorder import DEVICE, recording
    from benchmarks.gpu.workload import RandomCache, examples, task_data, train_spec

    data = task_data(examples(40, 12, 24), examples(20, 12, 24, seed=1))
    spec = train_spec(method, settings, steps=24, batch_size=8, eval_every=24, precision=PRECISION, accumulate=1)
    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        run = TrainingRun(spec, RandomCache(model, data, DEVICE, Path(folder)))
        run._open()
        run._start()
        for step in range(STEPS):
            if step == STEPS - 1:
                recorder.clear()
            run._train_step()
        misplaced = [n for n, p in run._base.model.named_parameters() if p.requires_grad and p.device != DEVICE]
        assert not misplaced, f"parameters on the CPU: {misplaced}"
        return f"{recorder.launches} kernels, waits {dict(recorder.waits)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
