"""Chooses the number of lanes on a GPU by measured throughput, and stores it for similar searches."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import torch

from autorank import atomic_io, cache, tasks
from autorank.searching.ray.resources import Resources, keep_within
from autorank.spec import TrainSpec
from autorank.training import gpu
from autorank.training.model_cache import ModelCache
from autorank.training.packing.pack import Pack

MIN_SPEEDUP_PER_DOUBLING = 1.1  # twice the lanes must train this much more in the same time (ours)
MAX_LANES = 64  # lanes: with more trials at once, samplers learn little from earlier trials (ours)
WARM_UP, STEPS = 3, 5


def measured_lane_count(train: TrainSpec, resources: Resources, shared_data: Any) -> int:
    """Choose the number of lanes by the throughput that is measured in a process with the resources of a pack.

    Args:
        train: The trial.
        resources: The resources of a pack.
        shared_data: See `WarmTrial`.

    Returns:
        The number of lanes.

    Raises:
        RayError: It could not be measured.
    """
    task = ray.remote(_measure).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0, max_calls=1)
    lanes: int = ray.get(task.remote(train, resources, {"shared_data": shared_data}))
    return lanes


def _measure(train: TrainSpec, resources: Resources, shared: dict[str, Any]) -> int:
    keep_within(resources.cpus, resources.gpus)
    model_cache = ModelCache()
    if shared["shared_data"] is not None:
        model_cache.store(**ray.get(shared["shared_data"]))
    device = torch.cuda.get_device_properties(model_cache.device).name, gpu.memory_limit(model_cache.device)
    return lane_count(train, model_cache, device)


def lane_count(train: TrainSpec, model_cache: ModelCache, device: tuple[str, int]) -> int:
    """Choose the number of lanes by measured throughput, unless it is stored.

    Args:
        train: A trial of the search.
        model_cache: Provides base model, data, and the directory in which numbers are stored.
        device: Name of the device, and bytes of memory that this process may use.

    Returns:
        The number of lanes.
    """
    model = model_cache.fingerprint(tasks.base_model(train.task, train.model))
    file = model_cache.probes / f"lanes-{cache.key([model, device, train.model_dump(mode='json')])}"
    if not file.exists():
        lanes = fastest_lane_count(partial(throughput, train, model_cache))
        with atomic_io.writing(file) as partial_file:
            partial_file.write_text(str(lanes))
    return int(file.read_text())


def fastest_lane_count(rate: Callable[[int], float | None]) -> int:
    """Double the number of lanes while this increases the throughput enough.

    Args:
        rate: Returns the steps per second of this number of lanes together; None: they do not fit in memory.

    Returns:
        The number of lanes.
    """
    lanes, best = 1, rate(1)
    while best is not None and lanes < MAX_LANES:
        doubled = rate(2 * lanes)
        if doubled is None or doubled < MIN_SPEEDUP_PER_DOUBLING * best:
            break
        lanes, best = 2 * lanes, doubled
    return lanes


def throughput(train: TrainSpec, model_cache: ModelCache, lanes: int) -> float | None:
    """Train equal lanes for a few steps.

    Args:
        train: A trial of the search.
        model_cache: Provides base model and data.
        lanes: Number of lanes.

    Returns:
        Their steps per second together; None if they do not fit in memory, or the method cannot be packed.
    """
    pack = Pack(model_cache)
    try:
        members = [pack.join(train) for _ in range(lanes)]
        steps = min(WARM_UP + STEPS, members[0].total_steps or 0)
        times = [_timed(pack) for _ in range(steps)]
        if pack.lanes != members or pack.max_lanes < lanes or members[0].reason_alone:
            return None
        return lanes / statistics.median(times[WARM_UP:] or times)
    except torch.OutOfMemoryError:
        return None
    finally:
        for lane in list(pack.lanes):
            pack.leave(lane)
        del pack
        gc.collect()
        if model_cache.device.type == "cuda":
            torch.cuda.empty_cache()


def _timed(pack: Pack) -> float:
    """Seconds of a step of all lanes."""
    started = time.perf_counter()
    pack.step()
    gpu.wait(pack.cache.device)
    return time.perf_counter() - started
