"""MLflow's pages on a search, as `autorank ui` opens them."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Keep, Open

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """What `autorank ui` prints once it serves the search."""
    here = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    server = subprocess.Popen(
        [sys.executable, "-m", "autorank.cli.app", "ui"], cwd=place, env=here | {"PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        assert select.select([server.stdout], [], [], 280)[0]
        line = server.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found.group()
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_mlflow_s_pages(opened: Open, place: Path, address: str, keep: Keep) -> None:
    """The search's run with its trials nested, and its front as table, picture and report."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("first")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    kind = "?workflowType=machine_learning"  # rather than what MLflow has for language models
    with opened(f"{address}/#/experiments/{experiment.experiment_id}/runs{kind}") as page:
        _close_assistant(page)
        row = page.locator(f'[row-id="{parent.info.run_id}"]').first
        row.wait_for()
        nested = page.locator("[row-id]").get_by_text(re.compile(r"^trial-\d+$"))
        assert nested.count() == 0
        row.get_by_role("button").first.click()
        nested.first.wait_for()
        page.wait_for_function("n => document.querySelectorAll('[row-id] a').length > n", arg=len(below))
        assert sorted(nested.all_inner_texts()) == sorted(run.info.run_name or "" for run in below)
        keep(page, "mlflow")
        page.goto(f"{address}/#/experiments/{experiment.experiment_id}/runs/{parent.info.run_id}/artifacts{kind}")
        page.get_by_text("front_table.json").first.click()
        page.get_by_text("adapter_params").first.wait_for()
        page.get_by_text("front.png").first.click()
        page.wait_for_function("[...document.images].some(each => each.naturalWidth > 500)")
        page.get_by_text("report.html").first.click()
        inside = page.frame_locator("iframe").last
        inside.locator("#plot-front .main-svg").first.wait_for()
        assert inside.locator("#title").inner_text() == "first"
        inside.locator("#slider").press("Home")
        smallest = min(point["params"] for point in json.loads(inside.locator("#data").text_content() or "")["points"])
        assert f"export first --max-params {smallest} " in inside.locator("#chosen-command").inner_text()


def _close_assistant(page: Page) -> None:
    """MLflow opens a chat beside its pages on the first visit."""
    close = page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]')
    close.wait_for()
    close.click()
