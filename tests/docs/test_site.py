"""README and docs: links, navigation, commands and methods that must be mentioned, and the built site."""

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
def test_links_have_targets(page: str) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked_file = os.path.normpath(Path(page).parent / path) if path else page
        assert (ROOT / linked_file).exists(), target
        assert not page.startswith("docs/") or linked_file.startswith("docs/"), f"{target}: not on the site"
        assert not anchor or anchor in anchors(linked_file), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    for name in re.findall(
        r"`((?:tests|trainables|search_spaces|autorank|examples|docs|benchmarks)/[\w./-]+)`", text(page)
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_prose_exist_with_their_options(page: str) -> None:
    for command_line in re.findall(r"`(autorank [a-z][^`]*)`", prose(page)):
        for words in command_line.split(" -- "):  # after --: the submitted command
            command: Any = typer.main.get_command(app.app)
            arguments = words.removeprefix("autorank ").split()
            while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
                command = command.commands[arguments.pop(0)]
            assert command.name in command_line, f"`{command_line}`: no such command"
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            unknown = {word.partition("=")[0] for word in arguments if word.startswith("--")} - options
            assert not unknown, f"`{command_line}`: {unknown}"


def test_every_page_is_in_the_navigation() -> None:
    nav_pages = [next(iter(entry.values())) for part in site()["nav"] for entry in _entries(part)]
    assert sorted(f"docs/{page}" for page in nav_pages) == [page for page in PAGES if page.startswith("docs/")]


def test_every_command_and_method_is_mentioned() -> None:
    everything = "".join(text(page) for page in PAGES)
    group: Any = typer.main.get_command(app.app)
    missing = [name for name in group.commands if f"autorank {name}" not in everything]
    assert not missing + [name for name in names() if f"`{name}`" not in everything]


def test_commands_that_are_not_run_occur_in_the_docs() -> None:
    """Each entry of NOT_RUN and FOREIGN occurs in some block, so that the lists stay up to date."""
    commands = "\n".join(block.content for page in PAGES for block in blocks(page) if block.language == "sh")
    assert not [word for word in (*NOT_RUN, *FOREIGN) if word not in commands]


def test_troubleshooting_headings_are_messages_of_the_program() -> None:
    """Each heading of docs/troubleshooting.md, except for the parts written as …, occurs in the source."""
    source_texts = [part for file in (ROOT / "autorank").rglob("*.py") for part in _texts(file)]
    for heading in re.findall(r"^### `(.+)`$", text("docs/troubleshooting.md"), re.MULTILINE):
        pieces = [piece.strip() for piece in heading.split("…") if piece.strip(" .:")]
        assert any(all(piece in source_text for piece in pieces) for source_text in source_texts), heading


def test_the_site_is_built(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install mkdocs-material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    external_asset = r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?|png|svg)"'
    pages = list(tmp_path.rglob("*.html"))
    assert pages and not [page for page in pages if re.search(external_asset, page.read_text(encoding="utf-8"))]


def site() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return config


def _entries(part: dict[str, Any]) -> list[dict[str, str]]:
    """The pages of an entry of the navigation: of a section, or the page itself."""
    ((_, value),) = part.items()
    return value if isinstance(value, list) else [part]


def _texts(file: Path) -> list[str]:
    """All strings of a source file, with … for the replacement fields of f-strings."""
    strings = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            strings.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node.value)
    return strings
