"""The process of a pack is killed: its trials continue in a new one."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from autorank.searching.budget import Budget
from autorank.searching.ray.stalls import trial_processes
from autorank.searching.search import search
from autorank.trials.snapshot import Snapshot
from tests.searching.packed import LORA, assert_equal, spec, write
from tests.trainables.trained import cached_in

pytestmark = pytest.mark.slow
TRIALS = 6


def test_the_process_of_a_pack_killed(ray: None, tmp_path: Path) -> None:
    write(tmp_path)
    killed: list[int] = []

    def kill(snapshot: Snapshot) -> None:
        """After the first evaluation, and in the second half."""
        evaluations = sum(len(trial.evaluations) for trial in snapshot.trials)
        if len(killed) < 2 and evaluations > 12 * len(killed):
            for process in trial_processes(psutil.Process(os.getpid())):
                if process.name().startswith("ray::PackActor") and process.pid not in killed:
                    process.kill()
                    killed.append(process.pid)

    with cached_in(tmp_path):
        whole, cut = (
            search(
                spec(tmp_path, name, LORA, steps=32), tmp_path / name, Budget(TRIALS, concurrency=3, lanes=3),
                progress=progress,
            ).snapshot
            for name, progress in (("whole", None), ("cut", kill))
        )  # fmt: skip
    assert len(killed) == 2
    assert_equal(cut, whole)
