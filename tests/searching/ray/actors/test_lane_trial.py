"""Trials in packs as Tune sees them, without Ray: which pack trains a trial, and what is left when it dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from autorank.searching.ray.actors import lane_trial
from autorank.searching.ray.actors.lane_trial import LaneTrial
from autorank.searching.ray.actors.pack_actor import GPU_FAILED, PackLost
from autorank.searching.ray.actors.trainable import bind
from autorank.searching.ray.scheduler import _death
from autorank.searching.retry_policy import Death
from tests.trials.trial_factories import evaluation


class Handle:
    """A handle of a pack with room for `room` trials, whose results are evaluations."""

    def __init__(self, room: int) -> None:
        self.lanes: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.room, self.dead = room, False
        self.admit = SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._admit))
        self.step, self.leave = SimpleNamespace(remote=self._step), SimpleNamespace(remote=self._leave)

    def _admit(self, lane: str) -> Callable[[], bool]:
        def admitted() -> bool:
            if len(self.lanes) == self.room:
                return False
            self.lanes.append(lane)
            return True

        return admitted

    def _step(self, lane: str, config: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        def trained() -> dict[str, Any]:
            if self.dead:
                raise ActorDiedError
            self.calls.append((lane, config["recorded"]))
            return {"evaluation": evaluation(config["recorded"] + 4, 10, 0.5), "finished": False, "done": False}

        return trained

    def _leave(self, lane: str) -> None:
        self.lanes.remove(lane)


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    monkeypatch.setattr(lane_trial.ray, "get", lambda call: call())
    return [Handle(2), Handle(2)]


def trial(packs: list[Handle], number: int) -> LaneTrial:
    instance: LaneTrial = bind(LaneTrial, packs=packs)({"number": number, "recorded": 0})
    return instance


def test_trials_are_spread_over_packs_with_free_lanes(packs: list[Handle]) -> None:
    trials = [trial(packs, number) for number in (0, 2, 4, 1, 5)]
    for packed_trial in trials:
        packed_trial.step()
    assert [len(pack.lanes) for pack in packs] == [2, 2]
    assert len({lane for lane, _ in packs[1].calls}) == 3  # the last finds no free lane; its pack makes room
    trials[0].stop()
    assert len(packs[0].lanes) == 1


def test_a_pack_learns_the_last_returned_step(packs: list[Handle]) -> None:
    """A trial that has lost its lane continues from that step. A new trial has another lane."""
    packed_trial = trial(packs, 0)
    for _ in range(2):
        packed_trial.step()
    packed_trial.reset({"number": 2, "recorded": 0})
    packed_trial.step()
    lanes = [lane for lane, _ in packs[0].calls]
    assert [recorded for _, recorded in packs[0].calls] == [0, 4, 0]
    assert lanes[0] == lanes[1] != lanes[2] and packs[0].lanes == [lanes[2]]


def test_the_module_does_not_import_torch() -> None:
    """Each lane has a process that only waits."""
    code = f"import sys; import {LaneTrial.__module__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_pack_that_died(packs: list[Handle]) -> None:
    """Its trials are retried; for trials with progress this does not count, because another may be to blame."""
    packed_trial = trial(packs, 0)
    packs[0].dead = True
    with pytest.raises(PackLost) as raised:
        packed_trial.step()
    death = _death(f"ray::LaneTrial.train()\n{PackLost.__module__}.PackLost: {raised.value}")
    assert isinstance(death, Death) and death.preempted and death.shared
    assert death.reason.startswith("the process of its pack died")
    death = _death(f"ray::LaneTrial.train()\n{PackLost.__module__}.PackLost: {GPU_FAILED}CUDA error: assert\nmore")
    assert death == Death("the GPU of its pack failed: CUDA error: assert", preempted=True, shared=True)
