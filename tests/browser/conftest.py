"""A browser, and a small real search to look at.

The pictures in docs/ are made here, of a search of full length: AUTORANK_SCREENSHOTS=docs/images pytest tests/browser
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}
SCREENSHOTS = os.environ.get("AUTORANK_SCREENSHOTS")
SHORT = ("--trials", "5", "--steps", "40", "--eval-every", "20")
SEARCH = ("search", "--method", "lora-drop", "--task", "demo", "--name", "first")
WAIT = 180_000.0  # ms, for what takes a moment where nothing else is at work
Open = Callable[..., AbstractContextManager["Page"]]
Keep = Callable[["Page | Locator", str], None]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program. AUTORANK_BROWSER=required: that there is none is a failure."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    lacking = "" if found else f"no browser is installed: none of {', '.join(NAMES)}"
    if find_spec("playwright") is None:
        lacking = "playwright is missing: pip install 'autorank-lora[test]'"
    if lacking and os.environ.get("AUTORANK_BROWSER") == "required":
        pytest.fail(lacking)
    if found is None or lacking:
        pytest.skip(lacking)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Of a module, since Playwright's event loop would be in the way of other tests."""
    from playwright.sync_api import sync_playwright

    drawing = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=drawing + as_root, timeout=WAIT)
        yield started
        started.close()


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Open:
    """Opens a page, which must ask no other machine for anything and complain of nothing."""

    @contextmanager
    def open_page(to: str, **how: Any) -> Iterator[Page]:
        context = browser.new_context(**{"viewport": SIZE, "color_scheme": "light", "reduced_motion": "reduce"} | how)
        context.set_default_timeout(WAIT)
        page = context.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        own = re.escape(to.split("#")[0]) if to.startswith("http") else "file:"
        page.on("request", lambda r: None if re.match(f"{own}|data:|blob:", r.url) else asked.append(r.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(to, timeout=WAIT)
        yield page
        context.close()
        assert not asked
        assert own != "file:" or not complaints, complaints  # MLflow's own complaints are its own

    return open_page


@pytest.fixture(scope="session")
def keep() -> Keep:
    """Makes a picture of the search for docs/, only where it is asked for."""

    def screenshot(what: Page | Locator, name: str) -> None:
        if SCREENSHOTS and not getattr(what, "page", what).url.endswith("made.html"):
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            what.screenshot(path=Path(SCREENSHOTS, f"{name}.png"), animations="disabled")

    return screenshot


@pytest.fixture(scope="session")
def workspace(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search was run and reported; not where there is no browser to see it with."""
    folder = tmp_path_factory.mktemp("browser")
    here = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    here |= {"AUTORANK_CACHE": str(folder / "cache")}
    searching = (*SEARCH, *(("--trials", "8") if SCREENSHOTS else SHORT))
    for words in (searching, ("report", "first")):
        done = subprocess.run(
            [sys.executable, "-m", "autorank.cli.app", *words], cwd=folder, env=here, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def reported(workspace: Path) -> Path:
    """The search's report."""
    return workspace / "runs" / "first" / "report.html"
