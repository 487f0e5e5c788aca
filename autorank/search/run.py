"""A search at work: Ray Tune runs the trials, the journal knows what was done and what there is to do."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray import tune

from autorank import tasks
from autorank.errors import AutorankError
from autorank.results.archive import Snapshot
from autorank.results.journal import Journal
from autorank.results.tracker import Tracker
from autorank.results.tracking import Projection, checked
from autorank.search import cluster, resources, storage
from autorank.search.confirm import FOLDER as CONFIRMING
from autorank.search.confirm import ConfirmSearcher, pending
from autorank.search.files import sweep
from autorank.search.opening import open_journal
from autorank.search.scheduler import Scheduler
from autorank.search.searcher import NO_SPACE, JournalSearcher, ended
from autorank.search.sizes import Bounds, Sizes, model_name, parameter_range, run_length
from autorank.search.trainable import WarmTrial, bind
from autorank.search.watch import Interrupt, Progress, Watch
from autorank.spec import SearchSpec
from autorank.tasks.task import TaskData

logger = logging.getLogger(__name__)

SCRATCH = ".tune"  # Tune's own files, in the search's folder; gone at the end


@dataclass(frozen=True)
class Budget:
    """What a search may use.

    Attributes:
        trials: how many shall have ended in total, those of earlier sessions included; with `more`, so many more than
            were asked for before.
        seconds: from now; then no trial starts, and those running stop at their next evaluation.
        concurrency: trials at once; by default as `resources.share` does.
        gpus_per_trial: may be a fraction; by default 1 for each worker where there are GPUs.
        workers: of each trial; with several, a trial is a Ray Train TorchTrainer.
        retries: of a trial whose process died.
        confirm: fresh seeds with which the front's points are trained again when the trials have ended.
        address: of a Ray cluster; by default RAY_ADDRESS, or a local Ray.
    """

    trials: int
    more: bool = False
    seconds: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    workers: int = 1
    retries: int = 3
    confirm: int = 0
    address: str | None = None

    def share(self, available: Mapping[str, float]) -> resources.Resources:
        """What each trial gets of what there is. Raises AutorankError if that does not suffice."""
        return resources.share(available, self.concurrency, self.gpus_per_trial, self.workers)


@dataclass(frozen=True)
class Outcome:
    """How a search ended. `tracked`: MLflow has all of it; if not, `autorank sync` catches up."""

    snapshot: Snapshot
    ending: Literal["trials", "exhausted", "time budget", "interrupted"]
    tracked: bool


def search(
    spec: SearchSpec,
    folder: Path,
    budget: Budget,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> Outcome:
    """Run or go on with the search in `folder` (see `files.run_folder`).

    Ctrl-C ends it with the journal whole: the same call goes on, and with the trials that it cut off from their last
    evaluation.

    Args:
        tracking_uri: of MLflow; None tracks nothing.
        progress: called twice a second.
        warn: called with what the user should know, but that stops nothing.

    Raises:
        AutorankError: the folder holds another search, data or model cannot be had, the resources do not
            suffice, the disk is full, or the first trials all fail for the same reason.
    """
    if tracking_uri is not None:
        checked(tracking_uri)
    if budget.address is None and "RAY_ADDRESS" not in os.environ:
        budget.share(resources.local())
    # trials find them in the cache, and mistakes show before anything starts
    data = tasks.load(spec.task, model_name(spec.task, spec.model))
    bounds = Sizes(spec.task, spec.model)
    with open_journal(spec, folder, lambda: (float(parameter_range(spec, bounds)[1]), 0.0)) as journal:
        trainable = bind(WarmTrial, folder=journal.folder)
        return conduct(journal, trainable, bounds, budget, tracking_uri, progress, warn, data)


def conduct(
    journal: Journal,
    trainable: type[WarmTrial],
    bounds: Bounds,
    budget: Budget,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = logger.warning,
    data: TaskData | None = None,
) -> Outcome:
    """Run trials of `trainable` until the journal has enough. Other arguments and errors as in `search`.

    Args:
        data: of the search's task, tokenised: the nodes of a cluster get them from here.
    """
    deadline = None if budget.seconds is None else time.monotonic() + budget.seconds
    folder = journal.folder
    if journal.cut:
        warn(f"The journal's last line was cut off in writing ({journal.cut} bytes); it was read up to there.")
    trials = budget.trials + (journal.wanted if budget.more else 0)
    journal.want(trials)
    listeners: list[Progress] = [] if progress is None else [progress]
    tracker = None
    if tracking_uri is not None:
        tracker = Tracker(Projection(tracking_uri, journal.spec, journal.search_id, journal.reference), warn)
        listeners.append(tracker.update)
    sweep(folder, journal.snapshot())
    searcher = JournalSearcher(
        journal, bounds, trials, deadline, budget.retries, run_length(journal.spec, data)[1] if data else 3,
        on_evaluation=lambda: sweep(folder, journal.snapshot()),
    )  # fmt: skip
    interrupted = False
    try:
        if len(ended(journal.trials())) < trials or pending(journal, budget.confirm):
            with cluster.running(budget.address, folder / cluster.LOG), Interrupt() as interrupt:
                confirming = bind(trainable, folder=folder / CONFIRMING)
                if budget.address or "RAY_ADDRESS" in os.environ:
                    storage.check(folder)
                    trainable = bind(trainable, shared=ray.put(data))
                each = budget.share(ray.cluster_resources())
                if len(ended(journal.trials())) < trials:
                    _fit(searcher, Watch(journal, searcher, interrupt, listeners), trainable, each, folder)
                if budget.confirm and not interrupt.requested and not searcher.out_of_time:
                    again = ConfirmSearcher(journal, budget.confirm, budget.retries)
                    _fit(again, Watch(journal, again, interrupt, listeners), confirming, each, folder)
                interrupted = interrupt.requested
    except KeyboardInterrupt:  # while Ray starts, or the second one
        interrupted = True
    finally:
        with contextlib.suppress(OSError):  # a full disk
            sweep(folder, journal.snapshot())
        snapshot = journal.snapshot()
        for listener in listeners:
            listener(snapshot)
        tracked = tracker is None or tracker.close()
    if interrupted:
        return Outcome(snapshot, "interrupted", tracked)
    if len(ended(snapshot.trials)) >= trials:
        return Outcome(snapshot, "trials", tracked)
    return Outcome(snapshot, "exhausted" if searcher.exhausted else "time budget", tracked)


def _fit(
    searcher: JournalSearcher | ConfirmSearcher, watch: Watch, trainable: type[WarmTrial], each: resources.Resources,
    folder: Path,
) -> None:  # fmt: skip
    """Tune's part. Raises AutorankError for a full disk, and whatever went wrong in the searcher."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if each.workers > 1:
        from autorank.search.workers import trained_trial

        trials: Any = trained_trial(trainable.folder, each)
    else:
        trials = tune.with_resources(trainable, {"cpu": each.cpus, "gpu": each.gpus})
    try:
        tuner = tune.Tuner(
            trials,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=Scheduler(searcher),
                num_samples=-1,
                max_concurrent_trials=each.concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials", storage_path=str(folder / SCRATCH), callbacks=[watch], verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        tuner.fit()
    except Exception as error:
        problem = searcher.problem or (None if watch.stopped else error)
    else:
        problem = searcher.problem
    finally:
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if problem is not None:
        if getattr(problem, "errno", None) == errno.ENOSPC or NO_SPACE in str(problem):
            raise AutorankError(f"{NO_SPACE} on the disk of {folder}. Free some, then go on.") from problem
        raise problem
