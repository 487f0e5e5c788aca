"""Runs commands in a subprocess or in this process, and prepares a directory to run them in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from autorank.cli import app
from tests import tiny_models

SPACE = """
rank: {type: int, low: 1, high: 8, log: true}
learning_rate: {type: float, low: 1.0e-3, high: 3.0e-2, log: true}
"""
DATA_OPTIONS = ("--data", "pairs.jsonl", "--text", "left,right", "--label", "label", "--model", "model")


def users_folder(folder: Path, examples: int = 120) -> Path:
    """A user's folder: a model, data, a space. Commands use them with DATA_OPTIONS and `--space space.yaml`."""
    tiny_models.model("bert", folder / "model")
    tiny_models.pairs_file(folder / "pairs.jsonl", examples)
    (folder / "space.yaml").write_text(SPACE)
    return folder


def autorank(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(arguments),
        cwd=cwd,
        env=subprocess_environment(cwd, **environment),
        capture_output=True,
        text=True,
        timeout=900,
    )


def run_in_process(*arguments: object, cwd: Path, columns: int = 100) -> Result:
    """Runs a command that starts no Ray in this process, which is faster. Its errors are raised."""
    environment = {"AUTORANK_CACHE": str(cwd / "cache"), "COLUMNS": str(columns), "MLFLOW_TRACKING_URI": None}
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app.app, [*map(str, arguments)], env=environment, catch_exceptions=False)


def invoke(*arguments: object) -> str:
    """Runs a command in this process and the current directory, and returns its output; its errors are raised."""
    result = CliRunner().invoke(app.app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "autorank.cli.app", *map(str, arguments)]


def subprocess_environment(cwd: Path, **variables: str) -> dict[str, str]:
    """The environment of a command in `cwd`: a cache in it, no tracking server, and these variables."""
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return inherited | {"AUTORANK_CACHE": str(cwd / "cache"), "COLUMNS": "100"} | variables
