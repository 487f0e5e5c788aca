"""A search at work: Ray Tune runs the trials, the journal knows what was done and what there is to do."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ray
from ray import tune

from autorank.errors import AutorankError
from autorank.results.journal import Journal
from autorank.results.records import TrialRecord
from autorank.results.tracker import Tracker
from autorank.results.tracking import Projection, checked
from autorank.search import cluster, resources
from autorank.search.files import sweep
from autorank.search.opening import open_journal
from autorank.search.scheduler import Scheduler
from autorank.search.searcher import NO_SPACE, JournalSearcher, ended
from autorank.search.trainable import MethodTrainable, WarmTrial, bind
from autorank.search.watch import Interrupt, Progress, Watch
from autorank.spec import SearchSpec

logger = logging.getLogger(__name__)

SCRATCH = ".tune"  # Tune's own files, in the search's folder; gone at the end


@dataclass(frozen=True)
class Budget:
    """What a search may use; see `search`."""

    trials: int
    seconds: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    address: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a search ended. `tracked`: MLflow has all of it; if not, `autorank sync` catches up."""

    trials: list[TrialRecord]
    ending: Literal["trials", "time budget", "interrupted"]
    tracked: bool


def search(
    spec: SearchSpec,
    folder: Path,
    *,
    trials: int,
    time_budget: float | None = None,
    concurrency: int | None = None,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> Outcome:
    """Run or go on with the search in `folder` (see `files.run_folder`) until `trials` have ended in total.

    Ctrl-C ends it with the journal whole: the same call goes on, and runs the interrupted trials again.

    Args:
        time_budget: seconds from now; then no trial starts, and those running stop at their next evaluation.
        concurrency: trials at once; by default as `resources.share` does.
        gpus_per_trial: may be a fraction; by default 1 where there are GPUs.
        address: of a Ray cluster; by default RAY_ADDRESS, or a local Ray.
        tracking_uri: of MLflow; None tracks nothing.
        progress: called twice a second with all records.
        warn: called with what the user should know, but that stops nothing.

    Raises:
        AutorankError: the folder holds another search, data or model cannot be had, the resources do not
            suffice, the disk is full, or the first trials all fail for the same reason.
    """
    from autorank.search.estimate import parameter_range, prepare

    if tracking_uri is not None:
        checked(tracking_uri)
    if address is None and "RAY_ADDRESS" not in os.environ:
        resources.share(resources.local(), concurrency, gpus_per_trial)
    prepare(spec.train)
    budget = Budget(trials, time_budget, concurrency, gpus_per_trial, address)
    with open_journal(spec, folder, lambda: (float(parameter_range(spec)[1]), 0.0)) as journal:
        trainable = bind(WarmTrial, spec=spec.train, folder=journal.folder)
        return conduct(journal, trainable, budget, tracking_uri, progress, warn)


def conduct(
    journal: Journal,
    trainable: type[MethodTrainable],
    budget: Budget,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> Outcome:
    """Run trials of `trainable` until the journal has enough. Arguments and errors as in `search`."""
    deadline = None if budget.seconds is None else time.monotonic() + budget.seconds
    folder = journal.folder
    journal.recover()
    journal.study.set_user_attr("trials", budget.trials)  # for one who goes on without saying how many
    listeners: list[Progress] = [] if progress is None else [progress]
    tracker = None
    if tracking_uri is not None:
        tracker = Tracker(Projection(tracking_uri, journal.spec, journal.search_id, journal.reference), warn)
        listeners.append(tracker.update)
    searcher = JournalSearcher(journal, budget.trials, deadline, on_evaluation=lambda records: sweep(folder, records))
    interrupted = False
    try:
        if len(ended(journal.trials())) < budget.trials:
            with cluster.running(budget.address, folder / cluster.LOG), Interrupt() as interrupt:
                there = ray.cluster_resources()
                each = resources.share(there, budget.concurrency, budget.gpus_per_trial)
                watch = Watch(journal, searcher, interrupt, listeners)
                _fit(searcher, watch, trainable, each, folder)
                interrupted = interrupt.requested
    except KeyboardInterrupt:  # while Ray starts, or the second one
        interrupted = True
    finally:
        with contextlib.suppress(OSError):  # a full disk: then the next start recovers
            journal.recover()
            sweep(folder, journal.trials())
        records = journal.trials()
        for listener in listeners:
            listener(records)
        tracked = tracker is None or tracker.close()
    if interrupted:
        return Outcome(records, "interrupted", tracked)
    return Outcome(records, "trials" if len(ended(records)) >= budget.trials else "time budget", tracked)


def _fit(
    searcher: JournalSearcher,
    watch: Watch,
    trainable: type[MethodTrainable],
    each: resources.Resources,
    folder: Path,
) -> None:
    """Tune's part. Raises AutorankError for a full disk, and whatever went wrong in the searcher."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    try:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": each.cpus, "gpu": each.gpus}),
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
