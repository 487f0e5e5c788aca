"""Run every command and code block of README and docs, in order, in one directory per page: see tests/docs/shell.py."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import stub_files
from tests.docs.blocks import PAGES, Block, blocks
from tests.docs.shell import run_page
from tests.tasks.loopback_hub import serve

pytestmark = pytest.mark.long
TESTED_ELSEWHERE = {"docs/adding-a-method.md": "tests/test_adding_a_method.py runs every block of it"}
# Commands that a page requires to have run before, as its text says.
PREREQUISITES = {
    "docs/report.md": (
        "autorank search --method lora-drop --task demo\n"
        "autorank search --method lora --task mrpc\n"
        "autorank search --method increlora --task mrpc\n"
        "autorank search --method prilora --task mrpc\n"
    ),
    "docs/shrink.md": "autorank train --method lora --task demo --set rank=4 --to my-adapter\n",
}
PRELOADED = [  # once, in the server process from which the process of each page is forked
    "torch",
    "transformers",
    "datasets",
    "peft",
    "mlflow",
    "ray.tune",
    "optuna",
    "autorank.cli.app",
    "autorank.searching.search",
    "autorank.display",
    "autorank.tracking.mlflow_sync",
    "autorank.recipes.run",
    "autorank.api",
    # imported where they are used
    "mlflow.store.tracking.sqlalchemy_store",
    "moocore",
    "plotly.offline",
    "rouge_score.rouge_scorer",
    "torchmetrics.functional.classification",
    "transformers.models.deberta_v2.modeling_deberta_v2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.roberta.modeling_roberta",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return stub_files.models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the caches and the MLflow store."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def processes(models: dict[str, Path], home: Path) -> Iterator[multiprocessing.context.ForkServerContext]:
    """The context in which pages run, with a stand-in for the Hub and empty caches."""
    with serve(stub_files.hub(models)) as address, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HF_ENDPOINT": address, "HF_HOME": str(home / "hub"), "AUTORANK_CACHE": str(home / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db", "OMP_NUM_THREADS": "1", "COLUMNS": "120",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        for name in ("RAY_ADDRESS", "HF_TOKEN", "HF_HUB_OFFLINE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        yield context


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TESTED_ELSEWHERE])
def test_every_block_runs(
    page: str, models: dict[str, Path], home: Path, processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    page_blocks = blocks(page)
    if all(block.language in ("text", "") for block in page_blocks):
        return
    folder, log = tmp_path / "place", tmp_path / "log"
    folder.mkdir()
    stub_files.folder(folder, models, home / "mlflow.db")
    setup_blocks = [Block("sh", None, PREREQUISITES[page], 0)] if page in PREREQUISITES else []
    process = processes.Process(target=run_page, args=(page, setup_blocks + page_blocks, folder, log))
    process.start()
    process.join()
    assert process.exitcode == 0, log.read_text()[-6000:]
