"""docs/methods.md agrees with the code."""

from __future__ import annotations

import re
import sys

import pytest

from autorank.methods import find, names
from tests.docs import methods_page
from tests.docs.blocks import text


def test_every_method_has_a_section_with_its_settings() -> None:
    assert sorted(methods_page.documented_methods()) == sorted(names())
    assert text(methods_page.PAGE) == methods_page.page(), "python -m tests.docs.methods_page brings it up to date"


WITH_PUBLISHED_CODE = ["increlora", "adalora", "elalora", "gora", "sora", "sparse-adapter"]


@pytest.mark.parametrize("name", WITH_PUBLISHED_CODE)
def test_differences_from_published_code_are_listed(name: str) -> None:
    docstring = sys.modules[find(name).__module__].__doc__ or ""
    items = docstring[docstring.index("Differs from the published code") :].count("\n  - ")
    section = text(methods_page.PAGE).split(f"<!-- settings of {name} -->")[1].split("<!-- end -->")[0]
    assert len(re.findall(r"^- ", section, re.MULTILINE)) == items > 1


def test_every_section_cites_the_paper_of_its_method() -> None:
    sections = re.split(r"^### ", text(methods_page.PAGE), flags=re.MULTILINE)[1:]
    assert len(sections) == len(names())
    for section in sections:
        name = re.findall(r"settings of ([\w-]+)", section)[0]
        papers = re.findall(r"arXiv (\d{4}\.\d{5})", find(name).source)
        assert section.startswith(f"`{name}`\n") and papers
        assert all(f"https://arxiv.org/abs/{paper}" in section for paper in papers)
