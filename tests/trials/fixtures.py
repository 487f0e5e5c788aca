"""Fixtures of a search: its specification, its trials and its journal."""

from __future__ import annotations

import math

import pytest

from autorank.spec import SearchSpec
from autorank.trials.journal.journal import Journal
from tests.trials.journals import REFERENCE
from tests.trials.trial_factories import search, trial


@pytest.fixture
def spec() -> SearchSpec:
    return search()


@pytest.fixture
def trials():
    return [
        trial(0, (100, 0.6), (100, 0.7)),
        trial(1, (50, 0.65), state="pruned", reason="behind its peers"),
        trial(2, (200, math.nan), state="failed", reason="diverged at step 10"),
        trial(3, (400, 0.9), state="running"),
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "first"


@pytest.fixture
def journal(folder, spec):
    with Journal.create(folder, spec, REFERENCE) as journal:
        yield journal
