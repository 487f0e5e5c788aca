"""The parts of benchmarks/authors that do not need the authors' code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.authors.fidelity", "--authors", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"{tmp_path} has none of IncreLoRA, AdaLoRA and MyTransformers" in result.stderr


def test_functions_run_without_the_rest_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "import missing\n"
        "def helper(x):\n    return x * FACTOR\n"
        "class Trainer(missing.Trainer):\n    def loss(self, x):\n        return helper(x) + 1\n"
    )
    program = (
        "from pathlib import Path; from benchmarks.authors.code_loader import functions; "
        f"scope = functions(Path({str(tmp_path / 'code.py')!r}), ['helper', 'loss'], {{'FACTOR': 3}}); "
        "print(scope['loss'](None, 2))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "7\n"
