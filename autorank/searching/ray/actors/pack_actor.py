"""The actor that trains the trials of a pack. Its clients are the trials that Tune knows (`lane_trial.py`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import ray

from autorank.searching.ray.resources import Resources, keep_within
from autorank.searching.ray.shared_storage_check import check_from_node

if TYPE_CHECKING:
    from autorank.searching.ray.actors.packed_trials import PackedTrials

FIRST_ROUND_WAIT_S = 20.0  # seconds in which the processes of the first trials must start
ROUND_WAIT_S = 2.0  # seconds in which Tune must decide which trials stop, and start others
ROUND_WAIT_FRACTION = 0.1  # likewise, as a share of the last round if that is longer
ERROR_DELIVERY_S = 1.0  # seconds to send errors before the process ends


GPU_FAILED = "the GPU of its pack failed: "


class PackLost(Exception):
    """The process of a pack died, its node was lost, or its GPU failed. Ray starts another, its trials are retried."""


class Call(NamedTuple):
    """A trial that waits for its next result."""

    config: dict[str, Any]
    result: asyncio.Future[dict[str, Any]]


class PackActor:
    """Trains trials in rounds, each up to the next evaluation.

    A round trains the trials that wait for a result. It begins when as many trials wait as in the last round, or after
    a short time, because between two evaluations Tune decides which trials stop, and starts others. A trial that does
    not wait leaves the pack, and continues from its checkpoint if it is called again. So no trial waits long for one
    that has been stopped, or whose process is dead.

    Calls are handled in an event loop, and all training is done in one thread.

    Args:
        resources: The resources of a pack.
        lanes: Number of lanes.

    Attributes:
        trial: `folder`, `shared_data` and `mount_token` of `WarmTrial`. No argument, because Ray warns that an actor
            whose arguments refer to shared objects may not be restarted.
    """

    trial: ClassVar[Mapping[str, Any]]

    def __init__(self, resources: Resources, lanes: int) -> None:
        self._capacity, self._gpus = lanes, resources.gpus
        self._thread = ThreadPoolExecutor(1, initializer=keep_within, initargs=(resources.cpus, resources.gpus))
        self._trials: PackedTrials | None = None
        self._lanes: set[str] = set()
        self._calls: dict[str, Call] = {}
        self._expected, self._patience = self._capacity, FIRST_ROUND_WAIT_S
        self._called = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._ended = False

    async def answer(self) -> None:
        """Return at once: the process has started."""

    async def admit(self, lane: str) -> bool:
        """Reserve a lane.

        Args:
            lane: Its identifier.

        Returns:
            Whether one was free.
        """
        while self._ended:
            await asyncio.sleep(ERROR_DELIVERY_S)
        if len(self._lanes | {lane}) > self._capacity:
            return False
        self._lanes.add(lane)
        return True

    async def step(self, lane: str, config: dict[str, Any]) -> dict[str, Any]:
        """Train a trial until its next result.

        Args:
            lane: Identifier of its lane.
            config: The trial's, see `WarmTrial`; `recorded` is the step of its last evaluation that was returned.

        Returns:
            The result, see `WarmTrial`.

        Raises:
            Exception: An error after which the process ends: the GPU's context is unusable, or this node cannot access
                the search's directory.
        """
        self._lanes.add(lane)
        call = self._calls[lane] = Call(config, asyncio.get_running_loop().create_future())
        self._called.set()
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._train())
        return await call.result

    async def leave(self, lane: str) -> None:
        """Free a lane; its trial has ended or was stopped."""
        self._lanes.discard(lane)
        self._calls.pop(lane, None)

    async def _train(self) -> None:
        """Train in rounds while trials wait."""
        loop = asyncio.get_running_loop()
        while self._calls:
            await self._gather()
            if not self._calls:
                return
            configs = {lane: call.config for lane, call in self._calls.items()}
            self._expected, self._lanes = len(configs), set(configs)
            started = loop.time()
            try:
                results = await loop.run_in_executor(self._thread, self._advance, configs)
            except Exception as error:
                self._end(error)
                return
            self._patience = max(ROUND_WAIT_S, ROUND_WAIT_FRACTION * (loop.time() - started))
            for lane, result in results.items():
                if (call := self._calls.pop(lane, None)) is not None:
                    call.result.set_result(result)

    async def _gather(self) -> None:
        """Wait for the trials of the next round."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while len(self._calls) < self._expected:
            self._called.clear()
            try:
                await asyncio.wait_for(self._called.wait(), deadline - loop.time())
            except TimeoutError:
                return

    def _advance(self, configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """A round; called in the thread that trains."""
        if self.trial["mount_token"] is not None:
            check_from_node(self.trial["mount_token"])
        if self._trials is None:
            # not at the top: the processes of the trials import this module, and need no torch
            from autorank.searching.ray.actors.packed_trials import PackedTrials
            from autorank.training.gpu import reserved_device
            from autorank.training.model_cache import ModelCache

            model_cache = ModelCache(reserved_device(self._gpus))
            if self.trial["shared_data"] is not None:
                model_cache.store(**ray.get(self.trial["shared_data"]))
            self._trials = PackedTrials(self.trial["folder"], model_cache)
        import torch

        try:
            return self._trials.advance(configs)
        except torch.AcceleratorError as error:  # the GPU's context is unusable for all trials; one of them caused it
            raise PackLost(GPU_FAILED + " ".join(str(error).split())) from error

    def _end(self, error: Exception) -> None:
        """Send an error to all trials, then end the process; Ray starts another, perhaps on another node."""
        self._ended = True
        for call in self._calls.values():
            call.result.set_exception(error)
        self._calls.clear()
        asyncio.get_running_loop().call_later(ERROR_DELIVERY_S, os._exit, 1)
