"""A journal of a search whose runs train nothing."""

from __future__ import annotations

import pytest

from autorank.searching.create import open_journal
from tests.searching.fake_runs import search_spec
from tests.searching.searcher_driver import REFERENCE


@pytest.fixture
def journal(tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: REFERENCE) as journal:
        yield journal
