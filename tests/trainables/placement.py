"""Runs on a CUDA device that computes nothing, in a process of their own."""

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


def trained(model: str, *options: str) -> dict[str, str]:
    """What `benchmarks.fake_cuda` says about each run, or pack of runs."""
    command = [sys.executable, "-m", "benchmarks.fake_cuda", model, *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(line.removeprefix(f"{model} ").split(": ", 1) for line in ran.stdout.splitlines())
