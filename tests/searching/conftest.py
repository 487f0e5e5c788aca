"""A journal of a search whose runs train nothing."""

from __future__ import annotations

import pytest

from autorank.searching.create import open_journal
from tests.searching.driven import REFERENCE
from tests.searching.standin import search_spec


@pytest.fixture
def journal(tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: REFERENCE) as journal:
        yield journal
