"""The demo's data: pairs of sentences that mean the same, or differ by one edit."""

from __future__ import annotations

from functools import cache
from random import Random

from autorank.tasks.named.demo.grammar import CHANGES, SWAPS, Meaning, draw, words

SIZES = {"train": 4000, "validation": 500}


def draw_pair(rng: Random, same: bool) -> tuple[Meaning, Meaning]:
    """Draw two meanings that are equal (`same`) or differ by one edit."""
    meaning = draw(rng)
    other: Meaning | None = meaning if same else None
    while other is None:
        other = rng.choice(rng.choice((SWAPS, CHANGES)))(meaning, rng)
    return meaning, other


@cache
def corpus() -> dict[tuple[str, str], tuple[Meaning, Meaning]]:
    """All pairs of sentences and their meanings, train first; the meanings of every second pair are equal."""
    rng = Random(20_250)
    rows: dict[tuple[str, str], tuple[Meaning, Meaning]] = {}
    while len(rows) < sum(SIZES.values()):
        meanings = draw_pair(rng, same=len(rows) % 2 == 1)
        first, second = (words(meaning, rng, rng.choice) for meaning in meanings)
        if first != second and (first, second) not in rows and (second, first) not in rows:
            rows[first, second] = meanings
    return rows


def pairs(split: str) -> dict[str, list[str] | list[int]]:
    """Return the columns of `train` (4,000 pairs) or `validation` (500): sentence1, sentence2, label (1: same)."""
    rows = list(corpus().items())
    rows = rows[: SIZES["train"]] if split == "train" else rows[SIZES["train"] :]
    return {
        "sentence1": [first for (first, _), _ in rows],
        "sentence2": [second for (_, second), _ in rows],
        "label": [int(meaning == other) for _, (meaning, other) in rows],
    }
