"""docs/methods.md says what the code does."""

from __future__ import annotations

import re

from autorank.methods import find, names
from tests.docs import methods_page
from tests.docs.blocks import text


def test_every_method_has_its_section_with_its_own_settings() -> None:
    assert sorted(methods_page.described()) == sorted(names())
    assert text(methods_page.PAGE) == methods_page.page(), "python -m tests.docs.methods_page brings it up to date"


def test_differences_from_published_code_are_listed() -> None:
    """As many as the docstrings have."""
    listed = {"increlora": 12, "adalora": 8, "elalora": 8, "gora": 6, "sora": 4, "sparse-adapter": 2}
    for name, count in listed.items():
        shown = methods_page.differences(name)
        assert len(re.findall(r"^- ", shown, re.MULTILINE)) == count, shown
        assert shown in text(methods_page.PAGE)


def test_every_section_cites_the_paper_of_its_method() -> None:
    sections = re.split(r"^### ", text(methods_page.PAGE), flags=re.MULTILINE)[1:]
    assert len(sections) == len(names())
    for section in sections:
        name = re.findall(r"settings of ([\w-]+)", section)[0]
        papers = re.findall(r"arXiv (\d{4}\.\d{5})", find(name).source)
        assert section.startswith(f"`{name}`\n") and papers
        assert all(f"https://arxiv.org/abs/{paper}" in section for paper in papers)
