"""Train every method for some steps on the fake CUDA device and report what would fail on a GPU.

    python -m benchmarks.fake_cuda [MODEL ...]      # tiny-bert, tiny-deberta, tiny-llama; default: all
    python -m benchmarks.fake_cuda --packed         # also those with low-rank updates, four of them in a pack

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
STEPS = 13  # trained steps of a method with hooks on the steps, whose schedule begins within them, and of a pack
LAST = 3  # number of last steps; at least one of them changes no ranks
HOOKS = ("before_forward", "before_step", "after_step", "penalty")  # of a method's steps
BATCH = EXAMPLES = 40  # an epoch is one batch: all batches have one shape, whose operators torch remembers
LANES = 4  # runs in a pack
# besides those of the tests; no value that is read from the device says that EVA's decomposition has converged
SETTINGS: dict[str, dict[str, int]] = {"eva": {"svd_steps": 8, "svd_batch_size": BATCH}}
JOIN, LEAVE = 3, 6  # steps before which half of the runs join a pack, and before which one leaves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS)
    parser.add_argument("--packed", action="store_true", help="also train several runs in a pack")
    arguments = parser.parse_args()
    fake_cuda.load()
    from benchmarks.gpu.__main__ import register_methods
    from tests.trainables.cases import LOW_RANK, METHODS

    register_methods()
    packs = [LOW_RANK[first : first + LANES] for first in range(0, len(LOW_RANK), LANES)] if arguments.packed else []
    failures = []
    for model in arguments.models:
        failures += [train_and_print(f"{model} {method}", train_alone, model, method) for method in METHODS]
        failures += [train_and_print(f"{model} pack {' '.join(pack)}", train_pack, model, *pack) for pack in packs]
    return int(any(failures))


def train_and_print(case: str, train: Callable[..., str], *arguments: str) -> bool:
    """Train and print the result; return whether it failed.

    Args:
        case: Name of the run or pack.
        train: Trains it in another process and describes its steps.
        arguments: Arguments of `train`: the base model, and the method of each run.

    Returns:
        Whether it failed.
    """
    try:
        print(f"{case}: {fake_cuda.call_in_process(train, *arguments)}", flush=True)
    except Exception as error:
        if "bitfit has nothing to train" in str(error):
            print(f"{case}: refused")
            return False
        traceback.print_exc()
        print(f"{case}: FAILED", flush=True)
        return True
    return False


def train_alone(model: str, method: str) -> str:
    """Train a run alone; describe its steps.

    Without a hook on the steps, those after the first are alike.
    """
    from autorank import methods
    from autorank.method import AllocationMethod
    from autorank.training.run import TrainingRun
    from benchmarks.fake_cuda.recorder import DEVICE, recording

    hooked = any(getattr(methods.find(method), hook) is not getattr(AllocationMethod, hook) for hook in HOOKS)
    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        run = TrainingRun(spec_of(method), cache(model, folder))
        run._open()
        run._prepare()
        text = describe_steps(run.train_step, recorder, STEPS if hooked else LAST + 1)
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

        return describe_steps(step, recorder, STEPS, change)


def spec_of(method: str) -> Any:
    """A run of a method with its settings in the tests."""
    from benchmarks.gpu.workload import train_spec
    from tests.trainables.cases import METHODS

    settings = METHODS[method].settings | SETTINGS.get(method, {})
    return train_spec(method, settings, steps=24, batch_size=BATCH, eval_every=24, precision="bf16", accumulate=1)


def cache(model: str, folder: str) -> Any:
    """A cache with a random model on the fake device."""
    from benchmarks.fake_cuda.recorder import DEVICE
    from benchmarks.gpu.workload import RandomCache, examples, task_data

    data = task_data(examples(EXAMPLES, 12, 24), examples(20, 12, 24, seed=1))
    return RandomCache(model, data, DEVICE, Path(folder))


def describe_steps(
    step: Callable[[], None], recorder: Any, count: int, before_step: Callable[[int], None] = lambda _: None
) -> str:
    """Take the steps; describe the last one that waits least often, and the one that waits most often.

    Args:
        step: Takes a step.
        recorder: Records what it does.
        count: Number of steps.
        before_step: Called with the number of each step; what it does is not counted.

    Returns:
        The kernels and waits.
    """
    steps = []
    for number in range(count):
        before_step(number)
        recorder.clear()
        step()
        steps.append((recorder.launches, recorder.waits.total(), dict(recorder.waits)))
    launches, waits, _ = min(steps[-LAST:], key=lambda counts: counts[1])
    _, max_waits, locations = max(steps, key=lambda counts: counts[1])
    return f"{launches} kernels, {waits} waits, at most {max_waits} {locations or ''}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
