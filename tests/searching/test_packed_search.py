"""A search on a real Ray whose trials train in packs."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.searching.budget import Budget
from autorank.searching.search import search
from tests.cache_dirs import cached_in
from tests.searching.packed_search import BITFIT, LORA, assert_equal, spec, write

pytestmark = pytest.mark.long


def test_trials_in_packs_equal_trials_alone(ray: None, tmp_path: Path) -> None:
    """Also next to trials that diverge, and to those of a method that cannot be packed."""
    write(tmp_path)
    warnings: list[str] = []
    with cached_in(tmp_path):
        alone, packed = (
            search(
                spec(tmp_path, name, LORA, BITFIT), tmp_path / name,
                Budget(6, concurrency=concurrency, lanes=lanes, confirm=1), warn=warnings.append,
            ).snapshot
            for name, concurrency, lanes in (("alone", 1, 1), ("packed", 3, 3))
        )  # fmt: skip
    assert_equal(packed, alone)
    assert packed.confirmed.keys() == alone.confirmed.keys() != set()
    for key, confirmation in packed.confirmed.items():
        assert confirmation["score"] == pytest.approx(alone.confirmed[key]["score"], abs=1e-4)
    assert {trial.state for trial in packed.trials} == {"complete", "failed"}
    assert warnings == [
        "Trials of bitfit are not batched with the others of their pack: it trains no low-rank updates."
    ]
