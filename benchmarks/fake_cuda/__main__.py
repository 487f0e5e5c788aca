"""Train every method for some steps on the fake CUDA device and report what would fail on a GPU.

    python -m benchmarks.fake_cuda [MODEL ...]      # tiny-bert, tiny-deberta, tiny-llama; default: all
    python -m benchmarks.fake_cuda --packed         # methods with low-rank updates, four of them in a pack

An operation whose tensors are on different devices raises an error, as on a GPU. A line has the kernels of a training
step, how often it waits for the GPU, and the same of the step that waits most often, such as one that changes ranks,
with the lines of code. The exit status is 1 if a method fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import fake_cuda

MODELS = ("tiny-bert", "tiny-deberta", "tiny-llama")
STEPS = 13  # trained steps; schedules begin within them
LAST = 3  # number of last steps; at least one of them changes no ranks
LANES = 4  # runs in a pack
# besides those of the tests; no value that is read from the device says that EVA's decomposition has converged
SETTINGS: dict[str, dict[str, int]] = {"eva": {"svd_steps": 8}}
JOIN, LEAVE = 3, 6  # steps before which half of the runs join a pack, and before which one leaves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS)
    parser.add_argument("--packed", action="store_true", help="train several runs in a pack")
    arguments = parser.parse_args()
    fake_cuda.load()
    from benchmarks.gpu.__main__ import register_methods
    from tests.trainables.cases import LOW_RANK, METHODS

    register_methods()
    train: Callable[..., str] = train_alone
    groups = [[name] for name in METHODS]
    if arguments.packed:
        train, groups = train_pack, [LOW_RANK[first : first + LANES] for first in range(0, len(LOW_RANK), LANES)]
    failures = [train_and_print(train, model, methods) for model in arguments.models for methods in groups]
    return int(any(failures))


def train_and_print(train: Callable[..., str], model: str, methods: list[str]) -> bool:
    """Train and print the result; return whether it failed."""
    case = f"{model} {' '.join(methods)}"
    try:
        print(f"{case}: {fake_cuda.call_in_process(train, model, *methods)}", flush=True)
    except Exception as error:
        if "bitfit has nothing to train" in str(error):
            print(f"{case}: refused")
            return False
        traceback.print_exc()
        print(f"{case}: FAILED", flush=True)
        return True
    return False


def train_alone(model: str, method: str) -> str:
    """Train a run alone; describe its steps."""
    from autorank.training.run import TrainingRun
    from benchmarks.fake_cuda.recorder import DEVICE, recording

    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        run = TrainingRun(spec_of(method), cache(model, folder))
        run._open()
        run._prepare()
        text = describe_steps(run._train_step, recorder)
        misplaced = [n for n, p in run._base.model.named_parameters() if p.requires_grad and p.device != DEVICE]
        assert not misplaced, f"parameters on the CPU: {misplaced}"
        return text


def train_pack(model: str, *methods: str) -> str:
    """Train runs in a pack, which some join and one leaves; describe its steps."""
    from autorank.training.packing.pack import Pack
    from benchmarks.fake_cuda.recorder import recording

    founders, joiners = methods[: len(methods) // 2], methods[len(methods) // 2 :]
    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        pack = Pack(cache(model, folder))
        for method in founders:
            pack.join(spec_of(method))

        def step() -> None:
            pack.step()
            for error in pack._failed.values():
                raise error  # type: ignore[misc]

        def change(number: int) -> None:
            for method in joiners if number == JOIN else ():
                pack.join(spec_of(method))
            if number == LEAVE:
                pack.leave(pack.lanes[0])

        return describe_steps(step, recorder, change)


def spec_of(method: str) -> Any:
    """A run of a method with its settings in the tests."""
    from benchmarks.gpu.workload import train_spec
    from tests.trainables.cases import METHODS

    settings = METHODS[method].settings | SETTINGS.get(method, {})
    return train_spec(method, settings, steps=24, batch_size=8, eval_every=24, precision="bf16", accumulate=1)


def cache(model: str, folder: str) -> Any:
    """A cache with a random model on the fake device."""
    from benchmarks.fake_cuda.recorder import DEVICE
    from benchmarks.gpu.workload import RandomCache, examples, task_data

    data = task_data(examples(40, 12, 24), examples(20, 12, 24, seed=1))
    return RandomCache(model, data, DEVICE, Path(folder))


def describe_steps(step: Callable[[], None], recorder: Any, before_step: Callable[[int], None] = lambda _: None) -> str:
    """Take the steps; describe the last one that waits least often, and the one that waits most often.

    `before_step` is called with the number of each step, and not counted.
    """
    steps = []
    for number in range(STEPS):
        before_step(number)
        recorder.clear()
        step()
        steps.append((recorder.launches, recorder.waits.total(), dict(recorder.waits)))
    launches, waits, _ = min(steps[-LAST:], key=lambda counts: counts[1])
    _, max_waits, locations = max(steps, key=lambda counts: counts[1])
    return f"{launches} kernels, {waits} waits, at most {max_waits} {locations or ''}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
