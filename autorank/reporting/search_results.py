"""The results of one search, as reports, comparisons and model cards use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autorank.spec import SearchSpec
from autorank.trials.snapshot import Snapshot


@dataclass(frozen=True)
class SearchResults:
    """A search and its results.

    Attributes:
        spec: What was searched.
        snapshot: The trials and the front.
        data: What `provenance.data_description` returns; None if unknown.
    """

    spec: SearchSpec
    snapshot: Snapshot
    data: Mapping[str, Any] | None = None
