"""Time and memory of a training step relative to PEFT's LoRA, with the same model, batch and optimizer.

    python -m benchmarks.speed.step_time                                      # a BERT of MiniLM's size, every method
    python -m benchmarks.speed.step_time --methods lora --targets query,value
    python -m benchmarks.speed.step_time --shape deberta-v3-base              # on a GPU: in bf16
    python -m benchmarks.speed.step_time --methods lora "lora compiled"       # torch.compile; CUDA graphs on a GPU

All contenders have the same mean rank at the end. Each method runs its whole schedule, shortened to `--steps`: AdaLoRA
shrinks; IncreLoRA grows, and computes scores in at least as large a share of the steps as in its published schedule for
MRPC (13 allocations in 3,450 steps, 40 steps with scores before each). The contenders take turns, step by step, so that
a change in the machine's speed affects all. The ratio is that of the means. The losses of our LoRA and of PEFT's are
compared at each step. Peak memory is measured in a separate process for each contender: GPU memory, or on a CPU the
resident set size.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.speed.contenders import BASELINE, COMPILED, METHODS, PEFT_ADALORA, SHAPES, Step, make, scored_share

PROGRESS_INTERVAL = 10  # steps between messages on progress
MEMORY_STEPS = 50  # steps of a process that measures memory, a whole schedule


def main() -> None:
    arguments = parse()
    if arguments.alone:
        measure_memory(arguments)
        return
    device = pick_device()
    contenders = [BASELINE, *arguments.methods, PEFT_ADALORA]
    steps = {name: make(name, arguments, device) for name in contenders}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    first_seconds: dict[str, float] = {}
    max_difference = 0.0
    for step in range(arguments.steps):
        if step % PROGRESS_INTERVAL == 0:
            print(f"step {step} of {arguments.steps}", file=sys.stderr, flush=True)
        losses = {}
        for name in contenders[step % len(contenders) :] + contenders[: step % len(contenders)]:
            seconds, losses[name] = time_step(steps[name], step, device)
            first_seconds.setdefault(name, seconds)
            if step >= arguments.warmup:
                times[name].append(seconds)
        if "lora" in losses:
            max_difference = max(max_difference, abs(losses["lora"] - losses[BASELINE]))
    report(arguments, device, times, first_seconds, max_difference)
    if not arguments.no_memory:
        print(f"{'':14}{'peak':>10}{'ratio':>8}")
        memory: dict[str, int] = {}
        for name in contenders:
            memory[name] = peak_memory(name)
            print(f"{name:14}{memory[name] / 2**20:8.0f}MB{memory[name] / memory[BASELINE]:8.3f}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, COMPILED], default=METHODS)
    parser.add_argument("--targets", default="all-linear")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # child process: print the peak memory of one
    arguments = parser.parse_args()
    arguments.precision = arguments.precision or ("bf16" if pick_device().type == "cuda" else "fp32")
    return arguments


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def time_step(step: Step, number: int, device: torch.device) -> tuple[float, float]:
    """Seconds and loss of a step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    loss = step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, float(loss)


def peak_memory(name: str) -> int:
    """Peak memory of a separate process that runs this contender, in bytes."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.step_time",
        *sys.argv[1:],
        "--alone",
        name,
        "--steps",
        str(MEMORY_STEPS),
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(arguments: argparse.Namespace) -> None:
    device = pick_device()
    step = make(arguments.alone, arguments, device)
    for number in range(arguments.steps):
        step(number)
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated(device))
    else:
        status = Path("/proc/self/status").read_text()  # getrusage would count the parent, from before exec
        print(int(status.split("VmHWM:")[1].split()[0]) * 1024)


def report(
    arguments: argparse.Namespace, device: torch.device, times: dict[str, list[float]], first_seconds: dict[str, float],
    max_difference: float,
) -> None:  # fmt: skip
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{machine}, {arguments.precision}, {arguments.shape}, {arguments.targets}, mean rank {arguments.rank}, "
          f"{arguments.batch} x {arguments.length} tokens, {len(times[BASELINE])} steps each")  # fmt: skip
    print(f"{'':14}{'mean':>9}{'median':>9}{'ratio':>8}{'first step':>12}")
    for name, values in times.items():
        mean, median = statistics.fmean(values), statistics.median(values)
        ratio = mean / statistics.fmean(times[BASELINE])
        print(f"{name:14}{1e3 * mean:7.1f}ms{1e3 * median:7.1f}ms{ratio:8.3f}{first_seconds[name]:11.1f}s")
    if "increlora" in times:
        print(f"increlora computes scores in {scored_share(arguments):.1%} of the steps")
    if "lora" in times:
        print(f"largest difference between the losses of LoRA and PEFT's LoRA: {max_difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
