"""Counts and durations as texts."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.options.parsing import parse_count, parse_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1), ("1.001k", 1001), ("0.4k", 400), ("150k", 150_000), ("1.2M", 1_200_000), ("2.3M", 2_300_000),
        ("0.07G", 70_000_000), ("12G", 12_000_000_000), ("1e5", 100_000), (1e5, 100_000), (0.1e1, 1), (29, 29),
        ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_counts_are_exact(text: str | float, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["1.0001k", "0.5", "150.5", 1.5])
def test_counts_that_are_not_whole_are_refused(text: str | float) -> None:
    with pytest.raises(AutorankError, match=f"--max-memory '{text}' is .* not a whole number"):
        parse_count(text, "--max-memory")


@pytest.mark.parametrize("text", ["", "k", "much", "-1", "0", "nan", "inf", "1:30", "1kk", "snan"])
def test_invalid_counts_are_refused(text: str) -> None:
    with pytest.raises(AutorankError, match="is not a count"):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), (90, 90), ("90s", 90), ("1.5m", 90), ("4h", 14400), ("1d", 86400)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1:30", "-1h", "0", "inf", "1w"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(AutorankError, match="is not a duration"):
        parse_seconds(text)


def test_auto_ends_before_the_limit_of_a_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700003600")
    assert parse_seconds("auto") == 3600 - 180
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700000060")
    assert parse_seconds("auto") == 1  # ends at once, in an orderly way
    for value in (None, "", "unlimited"):
        monkeypatch.delenv("SLURM_JOB_END_TIME") if value is None else monkeypatch.setenv("SLURM_JOB_END_TIME", value)
        with pytest.raises(AutorankError, match="--time-budget auto needs SLURM_JOB_END_TIME"):
            parse_seconds("auto")
