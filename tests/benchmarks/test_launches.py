"""Kernel launches of a training step and of a decoded token stay within limits, and no step waits for the GPU."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# launches of models with two layers; a step of before had 208, 317, 445, 369 and 725
LIMITS = {
    "roberta-base, attention-qv, lora": 158,
    "roberta-base, attention-qv, dora": 226,
    "roberta-base, all-linear, lora": 217,
    "roberta-base, all-linear, adalora": 272,
    "roberta-base, all-linear, prilora": 257,
    "roberta-base, all-linear, dora": 421,
    "roberta-base, attention-qv, lora, packed x 1": 180,
    "roberta-base, attention-qv, lora, packed x 8": 310,
    "roberta-base, attention-qv, dora, packed x 8": 390,
    "llama-1b, all-linear, a decoded token, lora": 178,  # PEFT's: 229
}
DECODED_WAITS = 5  # one by transformers' `generate`, to check for the end; four reads of the completed tokens
PACKED = 1.5  # launches of a step of 8 trials in a pack, relative to those of one trial, with all 12 layers
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="the device is compiled with c++, on Linux"
)


@functools.cache
def count_launches(layers: int, *parts: str) -> dict[str, tuple[int, int]]:
    """Launches and waits of each case whose name contains one of `parts`."""
    command = [sys.executable, "-m", "benchmarks.speed.launches", "--layers", str(layers), "--ours"]
    command += [word for part in parts for word in ("--only", part)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.rsplit(maxsplit=3) for line in result.stdout.splitlines()[1:] if line.startswith(("roberta", "llama"))]
    return {name.strip(): (int(launches), int(waits)) for name, launches, _, waits in rows}


def two_layers() -> dict[str, tuple[int, int]]:
    """Launches and waits of each case in `LIMITS`."""
    return count_launches(2, "roberta", "decoded")


@pytest.mark.parametrize("cases", ["roberta", "decoded"])
def test_launches_are_within_their_limits(cases: str) -> None:
    counts = {name: count for name, count in two_layers().items() if cases in name}
    assert counts.keys() == {name for name in LIMITS if cases in name}
    for name, (launches, waits) in counts.items():
        assert 0 < launches <= LIMITS[name] and waits <= (DECODED_WAITS if cases == "decoded" else 0), name


def test_a_pack_launches_little_more_than_a_trial() -> None:
    """With 12 layers, each of which launches as much as the third."""
    trial, pack = "roberta-base, attention-qv, lora", "roberta-base, attention-qv, lora, packed x 8"
    two, three = two_layers(), count_launches(3, trial)
    trial_launches, pack_launches = (two[name][0] + 10 * (three[name][0] - two[name][0]) for name in (trial, pack))
    assert trial_launches < pack_launches <= PACKED * trial_launches
