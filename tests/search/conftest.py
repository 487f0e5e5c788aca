"""A journal of a search whose runs train nothing."""

from __future__ import annotations

import pytest

from autorank.search.opening import open_journal
from tests.search.driven import REFERENCE
from tests.search.standin import search_spec


@pytest.fixture
def journal(tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: REFERENCE) as journal:
        yield journal
