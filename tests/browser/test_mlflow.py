"""MLflow's pages of a search, as `autorank ui` opens them."""

from __future__ import annotations

import json
import re
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import command, subprocess_environment

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Keep, Open

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(workspace: Path) -> Iterator[str]:
    """The address that `autorank ui` prints once it serves the search."""
    server = subprocess.Popen(
        command(("ui", "first")), cwd=workspace, env=subprocess_environment(workspace, PYTHONUNBUFFERED="1"),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        assert select.select([server.stdout], [], [], 280)[0]
        line = server.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:\d+/#\S+", line)
        assert match, line
        yield match.group()
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_mlflow_s_pages(opened: Open, workspace: Path, address: str, keep: Keep) -> None:
    """`autorank ui` opens the search's runs with chosen columns, and a run's front as table, picture and report."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("first")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    with opened(address) as page:
        page.wait_for_function("n => document.querySelectorAll('[row-id] a').length >= n", arg=len(runs))
        assert _columns(page) == ["method", "best_adapter_params", "best_score", "gain_over_baseline"]
        names = page.locator("[row-id]").get_by_text(re.compile(r"^(trial-\d+|first)$")).all_inner_texts()
        assert sorted(names) == sorted(run.info.run_name or "" for run in runs)
        scores = [float(text) for text in page.locator(f"[row-id] {_cell('best_score')}").all_inner_texts()]
        assert scores == sorted(scores, reverse=True) and len(scores) == len(runs)
        assert not page.locator("[data-assistant-ui]:visible, [data-component-id^='mlflow.assistant']:visible").count()
        keep(page, "mlflow")
        home = address.split("#")[0]
        page.goto(f"{home}#/experiments/{experiment.experiment_id}/runs/{parent.info.run_id}/artifacts")
        page.get_by_text("front_table.json").first.click()
        page.get_by_text("adapter_params").first.wait_for()
        page.get_by_text("front.png").first.click()
        page.wait_for_function("[...document.images].some(image => image.naturalWidth > 500)")
        page.get_by_text("report.html").first.click()
        inside = page.frame_locator("iframe").last
        inside.locator("#plot-front .main-svg").first.wait_for()
        assert inside.locator("#title").inner_text() == "first"
        inside.locator("#slider").press("Home")
        smallest = min(point["params"] for point in json.loads(inside.locator("#data").text_content() or "")["points"])
        assert f"export first --max-params {smallest} " in inside.locator("#chosen-command").inner_text()


def test_the_first_page_is_the_list_of_searches(opened: Open, address: str) -> None:
    """The address without its fragment shows neither pages for generative AI nor a notice on usage data."""
    with opened(address.split("#")[0]) as page:
        page.get_by_role("link", name="first").first.wait_for()
        text = page.locator("body").inner_text()
        assert "usage data" not in text.lower() and "Prompts" not in text
        settings = page.evaluate("({...localStorage})")
        assert settings["mlflow.workflowType_v1"] == '"machine_learning"'
        assert settings["mlflow.settings.telemetry.enabled_v1"] == "false"


def _cell(metric: str) -> str:
    return f'[col-id="metrics.`{metric}`"]'


def _columns(page: Page) -> list[str]:
    """The parameters and metrics that the table of runs shows, from left to right."""
    column_ids = page.locator(".ag-header-cell").evaluate_all("cells => cells.map(cell => cell.getAttribute('col-id'))")
    return re.findall(r"(?:params|metrics)\.`(\w+)`", " ".join(column_ids))
