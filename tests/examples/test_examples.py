"""Runs each example as a user would, offline and in a separate directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import subprocess_environment
from tests.sockets import free_port

pytestmark = pytest.mark.long
EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}  # trials run in one process


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


def run(name: str, workspace: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments], cwd=workspace, capture_output=True, text=True, timeout=600,
        env=subprocess_environment(workspace, **ENVIRONMENT),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def quickstart(workspace: Path) -> str:
    """The output of quickstart.py; tests below use its adapter."""
    return run("quickstart.py", workspace)


def test_quickstart(workspace: Path, quickstart: str) -> None:
    assert "[3/3] trial" in quickstart and "settings.threshold" in quickstart and "knee" in quickstart
    assert (workspace / "quickstart-adapter" / "adapter_config.json").is_file()
    assert (workspace / "runs" / "quickstart" / "report.html").is_file()


def test_load_with_peft(workspace: Path, quickstart: str) -> None:
    lines = run("load_with_peft.py", workspace).splitlines()
    assert len(lines) == 2 and all(line.startswith(("same (", "different (")) for line in lines)
    source = (EXAMPLES / "load_with_peft.py").read_text(encoding="utf-8")
    assert "import autorank" not in source and "from autorank" not in source


def test_serve(workspace: Path, quickstart: str) -> None:
    port = free_port()
    command = [sys.executable, str(EXAMPLES / "serve.py"), "quickstart-adapter", "--port", str(port)]
    server = subprocess.Popen(command, cwd=workspace, env=subprocess_environment(workspace, **ENVIRONMENT))
    try:
        pair = json.dumps({"first": "A child reads the book.", "second": "Nobody reads."}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", pair, {"content-type": "application/json"})
        probabilities = _answer(request, server)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
    assert set(probabilities) == {"same", "different"} and sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


def _answer(request: urllib.request.Request, server: subprocess.Popen[bytes]) -> dict[str, float]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 240
    while True:
        try:
            with opener.open(request, timeout=60) as response:
                probabilities: dict[str, float] = json.load(response)
                return probabilities
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)


def test_own_csv(tmp_path: Path) -> None:
    out = run("own_csv.py", tmp_path)
    assert "3 trials" not in out and "[3/3] trial" in out
    card = (tmp_path / "reviews-adapter" / "README.md").read_text(encoding="utf-8")
    assert "--text review --label verdict" in card and "good" in card


def test_own_method(tmp_path: Path) -> None:
    out = run("own_method.py", tmp_path)
    assert "[3/3] trial" in out and "query" in out and "upper-half on demo" in out


def test_cluster_job(tmp_path: Path) -> None:
    out = run("cluster_job.py", tmp_path, "--trials", "2", "--steps", "20", "--runs", "elsewhere")
    assert "2 trials; the knee has" in out and (tmp_path / "elsewhere" / "cluster-demo" / "journal.log").is_file()


def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executed notebook shows the progress bar, the front as a table, and the figure."""
    import nbformat
    from nbclient import NotebookClient

    for name, value in subprocess_environment(tmp_path, **ENVIRONMENT).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook: Any = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert all(cell.cell_type != "code" or not cell.outputs for cell in notebook.cells), "outputs are to be cleared"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    def displayed(start: str, kind: str) -> str:
        (outputs,) = (cell_outputs for source, cell_outputs in cells.items() if source.startswith(start))
        return "".join(out.data[kind] for out in outputs if "data" in out and kind in out.data)

    (outputs,) = (cell_outputs for source, cell_outputs in cells.items() if source.startswith("search = "))
    bar = "".join(out.text for out in outputs if out.output_type == "stream")
    assert "3/3 trials" in bar and "hypervolume" in bar and "Traceback" not in bar
    assert "<table>" in displayed("search = ", "text/html") and "<table>" in displayed("search.front", "text/html")
    assert displayed("search.figure()", "image/png").startswith("iVBOR")  # a PNG
    assert "settings.threshold" in displayed("search.to_frame()", "text/html")
    assert "<table>" in displayed("search.ranks", "text/html")
    assert (tmp_path / "notebook-adapter" / "adapter_config.json").is_file()
