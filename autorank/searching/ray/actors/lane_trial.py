"""Trials that train in packs, as Tune sees them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import ray
from ray import tune
from ray.exceptions import RayActorError
from typing_extensions import override

from autorank.searching.ray.actors.pack_actor import PackActor, PackLost
from autorank.searching.ray.resources import Resources

if TYPE_CHECKING:
    from autorank.searching.ray.actors.trainable import WarmTrial


class LaneTrial(tune.Trainable):
    """A trial of a search that a pack trains. Config, files and results: see `WarmTrial`.

    The pack has the resources; this process only waits for it.

    Attributes:
        packs: The actors of the search's packs.
    """

    packs: ClassVar[Sequence[Any]]

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Request one byte of memory, because Tune does not accept an empty request."""
        return tune.PlacementGroupFactory([{"memory": 1}])

    @override
    def setup(self, config: dict[str, Any]) -> None:
        self._pack: Any = None
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self._config, self._lane = new_config, uuid.uuid4().hex
        return True

    @override
    def step(self) -> dict[str, Any]:
        try:
            if self._pack is None:
                self._pack = self._admitted()
            result: dict[str, Any] = ray.get(self._pack.step.remote(self._lane, self._config))
        except RayActorError as error:
            raise PackLost(" ".join(str(error).split())) from None
        if "evaluation" in result:
            self._config = self._config | {"recorded": result["evaluation"].step}
        return result

    def _admitted(self) -> Any:
        """The first pack with a free lane. Calls are repeated until a pack that died has been restarted."""
        start = hash(self._config["number"]) % len(self.packs)
        for pack in (*self.packs[start:], *self.packs[:start]):
            if ray.get(pack.admit.options(max_task_retries=-1).remote(self._lane)):
                return pack
        return self.packs[start]  # the lane of a trial whose process died is not free yet

    @override
    def cleanup(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._pack is not None:
            self._pack.leave.remote(self._lane)
            self._pack = None


@contextlib.contextmanager
def packed(trial: type[WarmTrial], resources: Resources) -> Iterator[type[LaneTrial]]:
    """Start the packs of a search, which end with this context, or with the process of the search.

    Args:
        trial: The class that trains the trials alone.
        resources: The resources of the search.

    Yields:
        The Tune trainable of trials in packs.
    """
    from autorank.searching.ray.actors.trainable import bind

    attributes = {name: getattr(trial, name) for name in ("folder", "shared_data", "mount_token")}
    actor: Any = ray.remote(bind(PackActor, trial=attributes))
    actor = actor.options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=-1)
    fewest, more = divmod(resources.concurrency, resources.packs)
    packs: list[Any] = [actor.remote(resources, fewest + (i < more)) for i in range(resources.packs)]
    try:
        yield bind(LaneTrial, packs=packs)
    finally:
        for pack in packs:
            with contextlib.suppress(Exception):  # Ray may be gone
                ray.kill(pack)
