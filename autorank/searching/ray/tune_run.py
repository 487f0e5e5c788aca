"""Runs the trials of a searcher with Tune, and shares data with the nodes of a cluster."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from autorank import tasks
from autorank.errors import AutorankError, disk_full
from autorank.searching.ray.actors.trainable import WarmTrial
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.scheduler import Scheduler
from autorank.searching.ray.tune_callback import TuneCallback
from autorank.spec import SearchSpec

SCRATCH = ".tune"  # directory of Tune's own files, in the search's directory; deleted at the end


def share_data(spec: SearchSpec, final: bool) -> Any:
    """Put a task's data, and a base model that is a directory, into the cluster's object store.

    Args:
        spec: The search.
        final: Use the task's own validation split, as confirmations do.

    Returns:
        The reference for `WarmTrial.shared_data`.
    """
    task = spec.task.model_copy(update={"final": final})
    name = tasks.base_model(task, spec.model)
    folder = Path(name)
    paths = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    files = {path.name: np.fromfile(path, np.uint8) for path in paths}  # arrays are shared by the processes of a node
    return ray.put({"task": task, "model": name, "data": tasks.load(task, name), "files": files})


def fit(
    searcher: BaseSearcher, callback: TuneCallback, trainable: type[WarmTrial], resources: Resources, folder: Path
) -> None:  # fmt: skip
    """Run trials with Tune until the searcher has no more.

    Args:
        searcher: Starts trials and receives their results.
        callback: Called by Tune twice a second.
        trainable: The class of the actors.
        resources: Resources of each trial.
        folder: The search's directory.

    Raises:
        AutorankError: The disk is full, or Ray is lost.
        Exception: An error of the searcher.
    """
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    searcher.shares_devices = resources.lanes > 1 or 0 < resources.gpus < 1
    started = contextlib.ExitStack()
    try:
        trials = _tune_trainable(trainable, resources, started)
        callback.watch.packs = getattr(trials, "packs", ())
        tuner = tune.Tuner(
            trials,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=Scheduler(searcher),
                num_samples=-1,
                max_concurrent_trials=resources.concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials", storage_path=str(folder / SCRATCH), callbacks=[callback], verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        tuner.fit()
    except Exception as error:
        problem = searcher.problem or callback.watch.lost or (None if callback.stopped else error)
    else:
        problem = searcher.problem or callback.watch.lost
    finally:
        if callback.watch.lost is None:  # else calls to Ray may not return
            started.close()
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if problem is not None:
        if disk_full(problem):
            raise AutorankError(
                f"No space left on the disk of {folder}. Free some space, then resume the search."
            ) from problem
        raise problem


def _tune_trainable(trainable: type[WarmTrial], resources: Resources, started: contextlib.ExitStack) -> Any:
    """The class that Tune runs; what is started for it ends with `started`."""
    if resources.lanes > 1:
        from autorank.searching.ray.actors.lane_trial import packed

        return started.enter_context(packed(trainable, resources))
    if resources.workers > 1:
        from autorank.searching.ray.actors.multi_worker import multi_worker_trial

        return multi_worker_trial(trainable, resources)
    return tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus})
