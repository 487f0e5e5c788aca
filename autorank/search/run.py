"""A search at work: Ray Tune runs the trials, the journal knows what was done and what there is to do."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray import tune

from autorank import tasks
from autorank.errors import AutorankError
from autorank.results.about import described
from autorank.results.archive import Snapshot
from autorank.results.journal import Journal
from autorank.results.tracker import Tracker
from autorank.results.tracking import Projection, checked
from autorank.search import cluster, resources, storage
from autorank.search.budget import Budget
from autorank.search.confirm import FOLDER as CONFIRMING
from autorank.search.confirm import ConfirmSearcher, pending
from autorank.search.files import collect, stored, sweep
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

SCRATCH = ".tune"  # Tune's own files, in the search's folder; gone at the end


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
    if budget.storage is not None:
        stored(budget.storage, spec.name)  # whether it can be used at all
    if budget.address is None and "RAY_ADDRESS" not in os.environ:
        budget.share(resources.local())
    # trials find them in the cache, and mistakes show before anything starts
    data = tasks.load(spec.task, model_name(spec.task, spec.model))
    if data.shortened:
        warn(data.shortened)
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
    address = budget.storage or journal.wanted.get("storage")
    written = stored(address, journal.search_id) if address else folder
    if journal.cut:
        warn(f"The journal's last line was cut off in writing ({journal.cut} bytes); it was read up to there.")
    if data is not None and not journal.describe(described(data)):
        warn("The data, or what makes tokens of them, have changed since this search began: its scores do not compare.")
    trials, confirm = budget.wanted(journal.wanted, done)
    listeners: list[Progress] = [] if progress is None else [progress]
    tracker = None
    if tracking_uri is not None:
        there = Projection(
            tracking_uri, journal.spec, journal.search_id, journal.reference, folder.parent, journal.about
        )
        tracker = Tracker(there, warn)
        listeners.append(tracker.update)

    def tidy() -> None:
        snapshot = journal.snapshot()
        if written is not folder:
            collect(folder, written, snapshot)
            sweep(written, snapshot)
        sweep(folder, snapshot)

    def look() -> None:
        snapshot = journal.snapshot()
        for listener in listeners:
            listener(snapshot)

    ending: Ending = "trials"
    try:
        if done < max(trials, len(journal.trials())) or pending(journal, confirm):
            with (
                cluster.running(budget.address, folder / cluster.LOG),
                Interrupt() as interrupt,
                contextlib.ExitStack() as within,
            ):
                each = budget.share(ray.cluster_resources())
                joined = budget.address is not None or "RAY_ADDRESS" in os.environ or written is not folder
                seal = within.enter_context(storage.shared(written)) if joined else None
                journal.want(trials=trials, confirm=confirm, **({"storage": address} if address else {}))
                tidy()
                if progress is not None:
                    progress(journal.snapshot())  # what there is already
                deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
                length = LENGTH if data is None else run_length(journal.spec, data)[1]
                main = JournalSearcher(journal, bounds, trials, deadline, budget.retries, length, on_evaluation=tidy)
                again = ConfirmSearcher(journal, confirm, written / CONFIRMING, deadline, budget.retries)
                for searcher, place in ((main, written), (again, written / CONFIRMING)):
                    lent = lend(journal.spec, searcher is again) if joined and data else None
                    work = bind(trainable, folder=place, lent=lent, seal=seal)
                    if searcher.wanted() and not interrupt.requested:
                        fit(searcher, Watch(searcher, interrupt, look), work, each, folder)
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
            tidy()
        look()
        tracked = tracker is None or tracker.close()
    return Outcome(journal.snapshot(), ending, tracked, len(pending(journal, confirm)))


def lend(spec: SearchSpec, final: bool) -> Any:
    """A task's data in the cluster's object store, and a base model that is a folder, for nodes that do not have them:
    what `WarmTrial.lent` takes."""
    task = spec.task.model_copy(update={"final": final})
    name = model_name(task, spec.model)
    folder = Path(name)
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} if folder.is_dir() else {}
    return ray.put((task, name, tasks.load(task, name), files))


def fit(
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
