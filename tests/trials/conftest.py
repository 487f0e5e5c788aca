"""Fixtures of the journal's tests."""

from __future__ import annotations

from tests.trials.fixtures import folder, journal, spec, trials

__all__ = ["folder", "journal", "spec", "trials"]
