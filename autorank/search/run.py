"""A search at work: Ray Tune runs the trials, the journal knows what was done and what there is to do."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
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
from autorank.search.searcher import LENGTH, NO_SPACE, JournalSearcher, ended
from autorank.search.sizes import Bounds, Sizes, model_name, parameter_range, run_length
from autorank.search.source import TrialSource
from autorank.search.trainable import WarmTrial, bind
from autorank.search.watch import Interrupt, Progress, Watch
from autorank.spec import SearchSpec
from autorank.tasks.task import TaskData

logger = logging.getLogger(__name__)

TRIALS = 20  # of a search that was never told how many
SCRATCH = ".tune"  # Tune's own files, in the search's folder; gone at the end


@dataclass(frozen=True)
class Budget:
    """What a search may use.

    Attributes:
        trials: how many shall have ended in total, those of earlier sessions included; by default as many as were
            asked for at last, or TRIALS. With `more`, so many more than that, unless that was not reached yet.
        seconds: from now; then no trial starts, and those running stop at their next evaluation.
        concurrency: trials at once; by default as `resources.share` does.
        gpus_per_trial: may be a fraction; by default 1 for each worker where there are GPUs.
        workers: of each trial; with several, a trial is a Ray Train TorchTrainer.
        retries: of a trial whose process died.
        confirm: fresh seeds with which the front's points are trained again when the trials have ended; by default
            as asked for at last.
        address: of a Ray cluster; by default RAY_ADDRESS, or a local Ray.
    """

    trials: int | None = None
    more: bool = False
    seconds: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    workers: int = 1
    retries: int = 3
    confirm: int | None = None
    address: str | None = None

    def wanted(self, before: Mapping[str, int], ended: int) -> tuple[int, int]:
        """Trials in all, and seeds to confirm with. `before`: what was asked for at last, `ended`: trials so far."""
        trials = before.get("trials", 0)
        if self.trials is None:
            trials = trials or TRIALS
        elif not self.more:
            trials = self.trials
        elif ended >= trials:
            trials += self.trials
        return trials, before.get("confirm", 0) if self.confirm is None else self.confirm

    def share(self, available: Mapping[str, float]) -> resources.Resources:
        """What each trial gets of what there is. Raises AutorankError if that does not suffice."""
        return resources.share(available, self.concurrency, self.gpus_per_trial, self.workers)


Ending = Literal["trials", "exhausted", "time budget", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a search ended. `tracked`: MLflow has all of it; if not, `autorank sync` catches up. `unconfirmed`: how many
    of the runs that confirm the front are missing."""

    snapshot: Snapshot
    ending: Ending
    tracked: bool
    unconfirmed: int


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
    fewest, most = parameter_range(spec, bounds)
    if spec.objectives.max_params is not None and fewest > spec.objectives.max_params:
        raise AutorankError(
            f"--max-params {spec.objectives.max_params:,} is less than the smallest adapter of the space, {fewest:,}."
        )
    if spec.objectives.max_memory or spec.objectives.third == "memory":
        warn("Memory is measured on GPUs; on a CPU it is 0.")
    with open_journal(spec, folder, lambda: (float(most), 0.0)) as journal:
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
    folder, done = journal.folder, len(ended(journal.trials()))
    if journal.cut:
        warn(f"The journal's last line was cut off in writing ({journal.cut} bytes); it was read up to there.")
    trials, confirm = budget.wanted(journal.wanted, done)
    listeners: list[Progress] = [] if progress is None else [progress]
    tracker = None
    if tracking_uri is not None:
        tracker = Tracker(Projection(tracking_uri, journal.spec, journal.search_id, journal.reference), warn)
        listeners.append(tracker.update)
    ending: Ending = "trials"
    try:
        if done < max(trials, len(journal.trials())) or pending(journal, confirm):
            with cluster.running(budget.address, folder / cluster.LOG), Interrupt() as interrupt:
                each = budget.share(ray.cluster_resources())
                if joined := budget.address is not None or "RAY_ADDRESS" in os.environ:
                    storage.check(folder)
                journal.want(trials=trials, confirm=confirm)
                sweep(folder, journal.snapshot())
                deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
                length = LENGTH if data is None else run_length(journal.spec, data)[1]
                main = JournalSearcher(
                    journal, bounds, trials, deadline, budget.retries, length,
                    on_evaluation=lambda: sweep(folder, journal.snapshot()),
                )  # fmt: skip
                again = ConfirmSearcher(journal, confirm, folder / CONFIRMING, deadline, budget.retries)
                for searcher, place in ((main, folder), (again, folder / CONFIRMING)):
                    lent = lend(journal.spec, searcher is again) if joined and data else None
                    work = bind(trainable, folder=place, lent=lent)
                    if searcher.wanted() and not interrupt.requested:
                        _fit(searcher, Watch(journal, searcher, interrupt, listeners), work, each, folder)
                if interrupt.requested:
                    ending = "interrupted"
                elif main.out_of_time and (main.wanted() or again.wanted()):
                    ending = "time budget"
                elif main.exhausted:
                    ending = "exhausted"
    except KeyboardInterrupt:  # while Ray starts, or the second one
        ending = "interrupted"
    finally:
        with contextlib.suppress(OSError):  # a full disk
            sweep(folder, journal.snapshot())
        snapshot = journal.snapshot()
        for listener in listeners:
            listener(snapshot)
        tracked = tracker is None or tracker.close()
    return Outcome(snapshot, ending, tracked, len(pending(journal, confirm)))


def lend(spec: SearchSpec, final: bool) -> Any:
    """A task's data in the cluster's object store, for nodes that do not have them: what `WarmTrial.lent` takes."""
    task = spec.task.model_copy(update={"final": final})
    name = model_name(task, spec.model)
    return ray.put((task, name, tasks.load(task, name)))


def _fit(
    searcher: TrialSource, watch: Watch, trainable: type[WarmTrial], each: resources.Resources,
    folder: Path,
) -> None:  # fmt: skip
    """Tune's part. Raises AutorankError for a full disk, and whatever went wrong in the searcher."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if each.workers > 1:
        from autorank.search.workers import trained_trial

        trials: Any = trained_trial(trainable, each)
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
