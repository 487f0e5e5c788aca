"""benchmarks/gpu at tiny sizes on the CPU, where only what training needs can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# hides packages as if they were not installed
HIDDEN = """
import runpy, sys
hidden = {"ray", "mlflow", "datasets", "optuna", "pandas", "click", "moocore", "pyarrow", "rich", "scipy", "plotly",
          "torchmetrics", "sacrebleu", "rouge_score"}
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) if hasattr(finder, "find_spec") else finder for finder in sys.meta_path]
sys.argv = ["benchmarks.gpu", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""


def test_parts_run_without_what_training_does_not_need(tmp_path: Path) -> None:
    parts = ["methods", "memory", "time", "text", "packing"]
    command = [sys.executable, "-c", HIDDEN, *parts, "--device", "cpu", "--out", str(tmp_path / "gpu.json")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["machine"]["device"].startswith("CPU") and list(report["parts"]) == parts
    methods = {row["case"]: row for row in report["parts"]["methods"]}
    assert list(methods) == ["lora tiny-bert", "increlora tiny-bert"]
    for row in methods.values():  # the same device on both sides
        assert row["ok"] and row["loss"] == row["gradient"] == row["resumed"] == row["checkpointing"] == 0
        assert 0 < row["bf16"] < 0.1
    assert [row["contender"] for row in report["parts"]["time"]] == ["lora", "peft lora"]
    assert report["parts"]["text"][-1]["tokens per second"] > 0
    compared, alone, packed = report["parts"]["packing"]
    assert compared["ok"] and 0 <= compared["largest difference"] < 1e-4
    assert (alone["in"], packed["in"], packed["trials"]) == ("a run alone", "a pack", 2)
    assert 0 < alone["wall ms"] < packed["one after the other ms"]


def test_processes_start_together() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "processes", "--device", "cpu"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "processes 2" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_no_gpu_is_one_message() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and ran.stderr.strip().count("\n") == 0 and "--device cpu" in ran.stderr
    unknown = [sys.executable, "-m", "benchmarks.gpu", "unknown"]
    assert subprocess.run(unknown, cwd=ROOT, capture_output=True, check=False).returncode == 2
