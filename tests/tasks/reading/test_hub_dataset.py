"""Names of splits of datasets on the Hub. The datasets themselves are read in tests/tasks/test_same_data.py."""

from __future__ import annotations

import pytest

from autorank.tasks.reading.hub_dataset import HubDataset


@pytest.mark.parametrize(
    ("split", "other", "overlap"),
    [
        ("train", "train", True),
        ("train", "train[90%:]", True),
        ("validation[:80%]", "validation", True),
        ("train + validation", "validation", True),
        ("train", "validation", False),
        ("train", "train_r2", False),
        ("train[:90%]", "train[90%:]", False),
    ],
)
def test_splits_that_share_rows(split: str, other: str, overlap: bool) -> None:
    dataset = HubDataset("owner/name")
    assert dataset.overlap(split, other) == dataset.overlap(other, split) == overlap
