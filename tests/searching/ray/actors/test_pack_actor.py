"""The actor of a pack, without Ray: which trials are trained together, and when."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from autorank.searching.ray.actors import pack_actor
from autorank.searching.ray.actors.pack_actor import PackActor
from autorank.searching.ray.actors.trainable import bind
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.shared_storage_check import Unreachable

LANES = 3


class Rounds:
    """Replaces the trials: records the lanes of each round, and returns a result for each lane.

    Args:
        last: Evaluations of a trial.
    """

    def __init__(self, last: int = 2) -> None:
        self.rounds: list[str] = []
        self._last = last

    def advance(self, configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        time.sleep(0.05)  # a round takes a while
        self.rounds.append("".join(sorted(configs)))
        return {
            lane: {"step": config["recorded"] + 1, "done": config["recorded"] + 1 == self._last}
            for lane, config in configs.items()
        }


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackActor:
    for name in ("FIRST_ROUND_WAIT_S", "ROUND_WAIT_S"):
        monkeypatch.setattr(pack_actor, name, 0.2)
    attributes = {"folder": tmp_path, "shared_data": None, "mount_token": None}
    pack = bind(PackActor, trial=attributes)(Resources(LANES, 1, 0, lanes=LANES), LANES)
    pack._trials = Rounds()  # type: ignore[assignment]
    return pack


def rounds(actor: PackActor) -> list[str]:
    return actor._trials.rounds  # type: ignore[union-attr, no-any-return]


async def trial(actor: PackActor, lane: str, until: int = 2) -> None:
    """A client, which stops its trial after `until` results."""
    assert await actor.admit(lane)
    for recorded in range(until):
        result = await actor.step(lane, {"recorded": recorded})
        assert result["step"] == recorded + 1
    await actor.leave(lane)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), timeout=20))


def test_trials_that_start_together_are_trained_together(actor: PackActor) -> None:
    async def work() -> None:
        await asyncio.gather(trial(actor, "a"), start_late(trial(actor, "b")), start_late(trial(actor, "c")))

    run(work)
    assert rounds(actor) == ["abc", "abc"]


async def start_late(client: Coroutine[Any, Any, None]) -> None:
    await asyncio.sleep(0.1)
    await client


def test_the_next_trial_takes_the_lane_of_a_stopped_one(actor: PackActor) -> None:
    async def work() -> None:
        async def successive() -> None:
            await trial(actor, "a", until=1)
            await trial(actor, "d")

        await asyncio.gather(successive(), trial(actor, "b"), trial(actor, "c"))

    run(work)
    assert rounds(actor) == ["abc", "bcd", "d"]


def test_no_trial_waits_for_a_removed_one(actor: PackActor) -> None:
    """A trial that is not called again loses its lane, even if it did not leave."""

    async def work() -> None:
        async def dies() -> None:
            assert await actor.admit("a")
            await actor.step("a", {"recorded": 0})

        await asyncio.gather(dies(), trial(actor, "b"), trial(actor, "c"))
        await trial(actor, "d")

    run(work)
    assert rounds(actor) == ["abc", "bc", "d", "d"]


def test_fewer_trials_than_lanes(actor: PackActor) -> None:
    run(lambda: trial(actor, "a"))
    assert rounds(actor) == ["a", "a"]


def test_lanes_are_limited(actor: PackActor) -> None:
    async def work() -> None:
        assert [await actor.admit(lane) for lane in "abcda"] == [True, True, True, False, True]
        await actor.leave("b")
        assert await actor.admit("d")

    run(work)


def test_actor_exits_after_an_error_of_the_process(
    actor: PackActor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All trials get the error first; Ray starts the process again, and the trials with it."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(pack_actor, "ERROR_DELIVERY_S", 0.1)

    def unreachable(configs: dict[str, Any]) -> None:
        raise Unreachable("not readable")

    monkeypatch.setattr(actor._trials, "advance", unreachable)

    async def work() -> None:
        calls = [actor.step(lane, {"recorded": 0}) for lane in "abc"]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [Unreachable] * 3 and not ended
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(actor.admit("d"), timeout=0.5)  # waits for the new process
        assert ended == [1]

    run(work)
