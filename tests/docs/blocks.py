"""Pages of README and docs: their fenced blocks, headings and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*) *([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block. `title`: the name of its file, from ```LANGUAGE title="FILE"```."""

    language: str
    title: str | None
    content: str
    line: int


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    page_blocks = []
    for match in FENCE.finditer(text(page)):
        title = re.search(r'title="([^"]+)"', match[3])
        indentation = re.compile(f"^{match[1]}", re.MULTILINE)
        line = text(page).count("\n", 0, match.start()) + 1
        page_blocks.append(Block(match[2], title and title[1], indentation.sub("", match[4]), line))
    return page_blocks


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text(page))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, by the rule that GitHub and MkDocs share."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    titles = [re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """Targets of links and images, except URLs."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]
