"""README and docs as a whole: links, navigation, what must be mentioned, and the site itself."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from autorank.cli import app
from autorank.methods import names
from tests.docs.blocks import PAGES, ROOT, anchors, blocks, links, prose, text
from tests.docs.shell import FOREIGN, NOT_RUN

CONFIG = ROOT / "mkdocs.yml"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = os.path.normpath(Path(page).parent / path) if path else page
        assert (ROOT / place).exists(), target
        assert not page.startswith("docs/") or place.startswith("docs/"), f"{target}: not on the site"
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    for name in re.findall(
        r"`((?:tests|trainables|search_spaces|autorank|examples|docs|benchmarks)/[\w./-]+)`", text(page)
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_running_text_have_the_options_named(page: str) -> None:
    for found in re.findall(r"`(autorank [a-z][^`]*)`", prose(page)):
        for words in found.split(" -- "):  # what is submitted is a command of its own
            command: Any = typer.main.get_command(app.app)
            rest = words.removeprefix("autorank ").split()
            while hasattr(command, "commands") and rest and rest[0] in command.commands:
                command = command.commands[rest.pop(0)]
            assert command.name in found, f"`{found}`: no such command"
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - known
            assert not unknown, f"`{found}`: {unknown}"


def test_every_page_is_in_the_navigation() -> None:
    listed = [next(iter(entry.values())) for part in site()["nav"] for entry in _entries(part)]
    assert sorted(f"docs/{page}" for page in listed) == [page for page in PAGES if page.startswith("docs/")]


def test_every_command_and_method_is_mentioned() -> None:
    everything = "".join(text(page) for page in PAGES)
    group: Any = typer.main.get_command(app.app)
    missing = [name for name in group.commands if f"autorank {name}" not in everything]
    assert not missing + [name for name in names() if f"`{name}`" not in everything]


def test_exceptions_are_used() -> None:
    """What is listed as not run occurs in some block; else the list grows stale."""
    shown = "\n".join(block.content for page in PAGES for block in blocks(page) if block.language == "sh")
    assert not [word for word in (*NOT_RUN, *FOREIGN) if word not in shown]


def test_messages_are_the_programs_own() -> None:
    """The headings of the page on troubleshooting, but for what varies (…), stand in the source."""
    said = [part for file in (ROOT / "autorank").rglob("*.py") for part in _texts(file)]
    for heading in re.findall(r"^### `(.+)`$", text("docs/troubleshooting.md"), re.MULTILINE):
        pieces = [piece.strip() for piece in heading.split("…") if piece.strip(" .:")]
        assert any(all(piece in one for piece in pieces) for one in said), heading


def test_the_site_is_built(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install mkdocs-material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fetched = r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?|png|svg)"'
    pages = list(tmp_path.rglob("*.html"))
    assert pages and not [page for page in pages if re.search(fetched, page.read_text(encoding="utf-8"))]


def site() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return read


def _entries(part: dict[str, Any]) -> list[dict[str, str]]:
    """The pages of an entry of the navigation, which may be a section."""
    ((_, value),) = part.items()
    return value if isinstance(value, list) else [part]


def _texts(file: Path) -> list[str]:
    """Every text in a source file, with … where something is put in."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found
