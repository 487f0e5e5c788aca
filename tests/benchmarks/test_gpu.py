"""benchmarks/gpu at tiny sizes on the CPU, with only the packages that training needs."""

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


def test_parts_need_only_the_packages_for_training(tmp_path: Path) -> None:
    parts = ["methods", "memory", "time", "generation", "packing"]
    command = [sys.executable, "-c", HIDDEN, *parts, "--device", "cpu", "--out", str(tmp_path / "gpu.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["machine"]["device"].startswith("CPU") and list(report["parts"]) == parts
    methods = {row["case"]: row for row in report["parts"]["methods"]}
    assert list(methods) == ["lora tiny-bert", "increlora tiny-bert"]
    for row in methods.values():  # the same device on both sides
        assert row["ok"] and row["loss"] == row["gradient"] == row["resumed"] == row["checkpointing"] == 0
        assert 0 < row["bf16"] < 0.1
    assert [row["contender"] for row in report["parts"]["time"]] == ["lora", "peft lora"]
    assert report["parts"]["generation"][-1]["tokens per second"] > 0
    loss_row, alone_row, packed_row = report["parts"]["packing"]
    assert loss_row["ok"] and 0 <= loss_row["largest difference"] < 1e-4
    assert (alone_row["in"], packed_row["in"], packed_row["trials"]) == ("a run alone", "a pack", 2)
    assert 0 < alone_row["wall ms"] < packed_row["one after the other ms"]


def test_processes_start_together() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "processes", "--device", "cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "processes 2" in result.stdout, result.stdout + result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_a_missing_gpu_is_reported_in_one_message() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and result.stderr.strip().count("\n") == 0 and "--device cpu" in result.stderr
    unknown = [sys.executable, "-m", "benchmarks.gpu", "unknown"]
    assert subprocess.run(unknown, cwd=ROOT, capture_output=True, check=False).returncode == 2
