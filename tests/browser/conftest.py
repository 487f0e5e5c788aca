"""Fixtures: a browser, and a small real search with a report.

The screenshots in docs/ are taken here, of a longer search: AUTORANK_SCREENSHOTS=docs/images pytest tests/browser
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import autorank

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}
SCREENSHOTS = os.environ.get("AUTORANK_SCREENSHOTS")
SHORT = ("--trials", "5", "--steps", "40", "--eval-every", "20", "--concurrency", "1")  # one process trains
SEARCH = ("search", "--method", "lora-drop", "--task", "demo", "--name", "first")
WAIT = 180_000.0  # ms, for what takes a moment where nothing else is at work
Open = Callable[..., AbstractContextManager["Page"]]
Keep = Callable[["Page | Locator", str], None]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser; without one, tests are skipped, or fail if AUTORANK_BROWSER=required."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    problem = "" if program else f"no browser is installed: none of {', '.join(NAMES)}"
    if find_spec("playwright") is None:
        problem = "playwright is missing: pip install 'autorank-lora[test]'"
    if problem and os.environ.get("AUTORANK_BROWSER") == "required":
        pytest.fail(problem)
    if program is None or problem:
        pytest.skip(problem)
    return program


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser for one module, since Playwright's event loop would disturb tests of other modules."""
    from playwright.sync_api import sync_playwright

    webgl = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=webgl + sandbox, timeout=WAIT)
        yield instance
        instance.close()


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Open:
    """Opens a page, which must send no request to another host and log no error."""

    @contextmanager
    def open_page(url: str, **options: Any) -> Iterator[Page]:
        context = browser.new_context(
            **{"viewport": SIZE, "color_scheme": "light", "reduced_motion": "reduce"} | options
        )
        context.set_default_timeout(WAIT)
        page = context.new_page()
        foreign_requests: list[str] = []
        errors: list[str] = []
        allowed = re.escape(url.split("#")[0]) if url.startswith("http") else "file:"
        page.on(
            "request", lambda r: None if re.match(f"{allowed}|data:|blob:", r.url) else foreign_requests.append(r.url)
        )
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url, timeout=WAIT)
        yield page
        context.close()
        assert not foreign_requests
        assert allowed != "file:" or not errors, errors  # MLflow's own complaints are its own

    return open_page


@pytest.fixture(scope="session")
def keep() -> Keep:
    """Takes a screenshot of the search for docs/, if AUTORANK_SCREENSHOTS is set."""

    def screenshot(target: Page | Locator, name: str) -> None:
        if SCREENSHOTS and not getattr(target, "page", target).url.endswith("made.html"):
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            target.screenshot(path=Path(SCREENSHOTS, f"{name}.png"), animations="disabled")

    return screenshot


@pytest.fixture(scope="session")
def workspace(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished search and its report; skipped without a browser."""
    folder = tmp_path_factory.mktemp("browser")
    search_words = (*SEARCH, *(("--trials", "8") if SCREENSHOTS else SHORT))
    for words in (search_words, ("report", "first")):
        result = autorank(*words, cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def reported(workspace: Path) -> Path:
    """The search's report."""
    return workspace / "runs" / "first" / "report.html"
