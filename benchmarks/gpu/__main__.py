"""Check and measure training on a GPU, with random weights of true shapes and without network.

    python -m benchmarks.gpu                          # all parts, at most 450 seconds (--seconds)
    python -m benchmarks.gpu methods time --out gpu.json
    python -m benchmarks.gpu --device cpu             # the script itself, at tiny sizes

Run it in the root of the repository. It needs torch, transformers, peft, pydantic and PyYAML, but neither an
installation of autorank nor Ray, MLflow, datasets or Optuna. Parts:

    methods     every method on a tiny BERT, DeBERTa and Llama: losses and gradients against the CPU, bf16, gradient
                checkpointing, save and resume, overflow in fp16, host synchronization in a training step
    memory      peak memory against what `--accumulate auto` chose, memory after a trial, recovery from out of memory
    time        wall time, GPU time and kernel launches of a training step, next to PEFT
    generation  training step and greedy decoding of a Llama with a billion parameters
    packing     steps of 1 to 16 trials in one pack, next to the same trials one after the other
    processes   steps per second of several processes on the GPU, with and without MPS

Each part has a share of `--seconds`; cases that do not fit into it are reported as not run. The exit status is 1 if a
check failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# shares of the time
PARTS = {"methods": 0.42, "memory": 0.12, "time": 0.12, "generation": 0.08, "packing": 0.12, "processes": 0.14}
MODULES = {"time": "timing"}  # names of modules, where they differ from the part's


def main() -> int:
    arguments = parse()
    register_methods()
    import torch

    from benchmarks.gpu.workload import Options

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("No CUDA device is visible to torch. Use --device cpu to test the script at tiny sizes.", file=sys.stderr)
        return 2
    machine = machine_of(arguments.device)
    print("  ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    shares = sum(PARTS[part] for part in arguments.parts)
    report: dict[str, Any] = {"machine": machine, "parts": {}}
    for part in arguments.parts:
        seconds = arguments.seconds * PARTS[part] / shares
        options = Options(torch.device(arguments.device), arguments.device == "cpu", time.monotonic() + seconds)
        rows = report["parts"][part] = []
        for row in run_part(part, options):
            rows.append(row)
            if arguments.out:
                arguments.out.write_text(json.dumps(report, indent=1))
    rows = [row for rows in report["parts"].values() for row in rows]
    failures = [row for row in rows if row.get("ok") is False]
    for row in failures:
        print("FAILED", line(row))
    print(f"{len(failures)} of {len(rows)} cases failed, {sum('not run' in row for row in rows)} were not run")
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts to run; all by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=450, help="time for all named parts together")
    parser.add_argument("--out", type=Path, help="file for the results, JSON")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"unknown part {unknown[0]!r}. Available: {', '.join(PARTS)}")
    arguments.parts = arguments.parts or list(PARTS)
    return arguments


def register_methods() -> None:
    """Make the methods of the checkout known where autorank is not installed."""
    from autorank import methods

    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][methods.GROUP]
    os.environ.setdefault(methods.METHODS_VARIABLE, ",".join(f"{name}={target}" for name, target in points.items()))


def machine_of(device: str) -> dict[str, Any]:
    """The machine and the versions of the libraries."""
    import torch
    import transformers

    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": name, "cpus": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__,
        "cuda": torch.version.cuda, "transformers": transformers.__version__,
    }  # fmt: skip


def run_part(part: str, options: Any) -> Iterator[dict[str, Any]]:
    """Print and yield the rows of a part; an unexpected error is a row, too."""
    started = time.monotonic()
    print(f"\n== {part}", flush=True)
    try:
        for row in importlib.import_module(f"benchmarks.gpu.{MODULES.get(part, part)}").run(options):
            print(line(row), flush=True)
            yield row
    except Exception as error:
        traceback.print_exc()
        yield {"case": part, "ok": False, "error": f"{type(error).__name__}: {error}"}
    print(f"== {part}: {time.monotonic() - started:.0f} s", flush=True)


def line(row: dict[str, Any]) -> str:
    """A row of a table as text."""
    values = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    return "  ".join(values)


if __name__ == "__main__":
    sys.exit(main())
