"""Throughput of several processes that train on one GPU, with and without MPS.

python -m benchmarks.gpu.processes --worker FOLDER    # one process: waits for FOLDER/go, prints its steps
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.workload import Options
from benchmarks.speed import contenders

COUNTS = (8, 1, 4, 2)  # most important first, in case time runs out
SECONDS = 5.0  # measured time
READY_TIMEOUT_S = 60.0  # seconds until all workers are ready
END_TIMEOUT_S = SECONDS + 20.0  # and then until they end
CONTROL_TIMEOUT_S = 10.0  # for the MPS server to start and to end


def run(options: Options) -> Iterator[dict[str, Any]]:
    """One row per number of processes, without and with MPS."""
    if options.tiny:
        yield {"processes": 2, "MPS": False, "steps per second": throughput(2, options, dict(os.environ))}
        return
    failed = False
    with mps() as environment:
        for count in COUNTS:
            for name, variables in (("off", dict(os.environ)), ("on", environment)):
                if variables is None:
                    yield {"processes": count, "MPS": name, "not run": "no MPS server on this machine"}
                elif options.late:
                    yield {"processes": count, "MPS": name, "not run": "no time left"}
                elif name == "on" and failed:
                    yield {"processes": count, "MPS": name, "not run": "MPS does not work on this machine"}
                else:
                    rate = throughput(count, options, variables)
                    row = {"processes": count, "MPS": name, "steps per second": rate}
                    failed |= name == "on" and rate == 0
                    yield row | ({"not run": "MPS failed"} if name == "on" and rate == 0 else {"ok": rate > 0})


def throughput(count: int, options: Options, environment: dict[str, str]) -> float:
    """Steps per second of all processes together."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "benchmarks.gpu.processes", "--worker", folder]
        command += ["--tiny"] if options.tiny else []
        workers = [
            subprocess.Popen(
                [*command, "--number", str(number)], env=environment, stdout=subprocess.PIPE, text=True
            )
            for number in range(count)
        ]  # fmt: skip
        deadline = time.monotonic() + READY_TIMEOUT_S
        while sum(1 for _ in Path(folder).glob("ready-*")) < count and time.monotonic() < deadline:
            if any(worker.poll() is not None for worker in workers):
                break
            time.sleep(0.1)
        (Path(folder) / "go").touch()
        outputs, deadline = [], time.monotonic() + END_TIMEOUT_S
        for worker in workers:
            try:
                outputs.append(worker.communicate(timeout=max(0.1, deadline - time.monotonic()))[0])
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
                outputs.append("")
    if not all(output.strip() for output in outputs):
        return 0.0
    return sum(float(output.split()[-1]) for output in outputs)


@contextmanager
def mps() -> Iterator[dict[str, str] | None]:
    """The environment in which processes share the GPU through an MPS server of our own; None if there is none."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield None
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pipes = {"CUDA_MPS_PIPE_DIRECTORY": f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for path in pipes.values():
            Path(path).mkdir()
        environment = dict(os.environ) | pipes
        try:
            yield environment if tell(control, ["-d"], "", environment) else None
        finally:
            tell(control, [], "quit\n", environment)


def tell(control: str, arguments: list[str], text: str, environment: dict[str, str]) -> bool:
    """Call the control program of MPS; return whether it succeeded in time."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [control, *arguments], input=text, text=True, env=environment, timeout=CONTROL_TIMEOUT_S, **quiet
        )
        return done.returncode == 0
    return False


def work(folder: Path, number: int, tiny: bool) -> None:
    """Train LoRA on RoBERTa-base for a few seconds; print the steps per second."""
    device = torch.device("cpu" if tiny else "cuda")
    torch.set_num_threads(1)
    options = Namespace(
        shape="minilm" if tiny else "roberta-base", targets="attention-qv", rank=8, batch=2 if tiny else 16,
        length=8 if tiny else 64, steps=1_000_000, precision="fp32" if tiny else "bf16",
    )  # fmt: skip
    step = contenders.make("lora", options, device)
    steps = 0
    for _ in range(3):
        step(steps := steps + 1)
    (folder / f"ready-{number}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    started, steps_before = time.perf_counter(), steps
    while time.perf_counter() - started < (0.5 if tiny else SECONDS):
        step(steps := steps + 1)
        if not tiny:
            torch.cuda.synchronize()
    print((steps - steps_before) / (time.perf_counter() - started))


if __name__ == "__main__":
    from benchmarks.gpu.__main__ import register_methods

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    register_methods()
    work(arguments.worker, arguments.number, arguments.tiny)
