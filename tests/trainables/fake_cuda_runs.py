"""Runs on a simulated CUDA device that computes nothing, in a separate process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="the device is compiled with c++, on Linux"
)
long = pytest.mark.long
each_model = pytest.mark.parametrize(
    "model", ["tiny-bert", pytest.param("tiny-deberta", marks=long), pytest.param("tiny-llama", marks=long)]
)


def fake_cuda_results(model: str, *options: str) -> dict[str, str]:
    """Name of each run or pack of runs -> what `benchmarks.fake_cuda` prints about it."""
    command = [sys.executable, "-m", "benchmarks.fake_cuda", model, *options]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return dict(line.removeprefix(f"{model} ").split(": ", 1) for line in completed.stdout.splitlines())
