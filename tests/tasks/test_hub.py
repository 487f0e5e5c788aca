"""Named tasks and tokenizers through the real Hub clients, each in a separate process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import tiny_models
from tests.tasks.loopback_hub import serve

ROWS = {
    "sentence1": ["w1 w2", "w3", "w4 w5", "w6"],
    "sentence2": ["w7", "w8 w9", "", "w10"],
    "label": [0, 1, 1, 0],
    "idx": [0, 1, 2, 3],
}
CARD = """---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train-*}
  - {split: validation, path: mrpc/validation-*}
---
"""
CLOSED = "http://127.0.0.1:9"  # the discard port: no server listens
SCRIPT = """
import sys
from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load

for argument in sys.argv[1:]:
    task, data, model = argument.split("=")
    try:
        task_data = load(TaskSpec(name=task, data=data or None), model)
        print("loaded", len(task_data.train), task_data.digest)
    except AutorankError as error:
        print("refused", " ".join(str(error).split()))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    content = io.BytesIO()
    pq.write_table(pa.table(ROWS), content)
    model = tmp_path_factory.mktemp("model")
    tiny_models.model("bert", model)
    return {
        "datasets/nyu-mll/glue": {
            "README.md": CARD.encode(),
            "mrpc/train-00000-of-00001.parquet": content.getvalue(),
            "mrpc/validation-00000-of-00001.parquet": content.getvalue(),
        },
        "models/org/tiny": {path.name: path.read_bytes() for path in model.iterdir()},
    }


def load(home: Path, endpoint: str, *arguments: str, **variables: str) -> list[str]:
    """Load each `task=data folder=model` in a process with the Hub's cache in `home`; one line of output for each."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(home / "hf"), "AUTORANK_CACHE": str(home / "cache"), "HF_ENDPOINT": endpoint}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    result = subprocess.run(command, env=environment | variables, capture_output=True, text=True, cwd=home, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_cached_data_are_used_when_the_hub_is_unreachable(files: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    folder = tmp_path / "mrpc"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.parquet").write_bytes(
            files["datasets/nyu-mll/glue"][f"mrpc/{split}-00000-of-00001.parquet"]
        )
    with serve(files) as endpoint:
        from_hub, from_files, no_model, no_configuration = load(
            tmp_path, endpoint, "mrpc==org/tiny", f"mrpc={folder}=org/tiny", "mrpc==org/tny", "cola==org/tiny"
        )
    assert from_hub.startswith("loaded 4 ") and from_hub == from_files
    assert "no model 'org/tny'" in no_model
    assert "cola" in no_configuration and "--data" in no_configuration

    cached, not_cached = load(tmp_path, CLOSED, "mrpc==org/tiny", "mrpc==org/other")
    assert cached == from_hub
    assert "out of reach and model 'org/other'" in not_cached


def test_without_network_and_cache_the_message_names_data_and_demo(tmp_path: Path) -> None:
    (line,) = load(tmp_path, CLOSED, "mrpc==org/tiny")
    assert line.startswith("refused") and "--data DIR" in line and "--task demo" in line


def test_gated_without_and_with_token(files: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    with serve(files, token="sesame") as endpoint:
        data, model = load(tmp_path, endpoint, "mrpc==org/tiny", "demo==org/tiny")
        (with_token,) = load(tmp_path, endpoint, "mrpc==org/tiny", HF_TOKEN="sesame")
    assert "dataset 'nyu-mll/glue' is gated" in data and "HF_TOKEN" in data
    assert "model 'org/tiny' is gated" in model and "HF_TOKEN" in model
    assert with_token.startswith("loaded 4 ")
