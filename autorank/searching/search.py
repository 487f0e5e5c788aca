"""Runs a search, or resumes it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ray.exceptions import RayError

from autorank import tasks
from autorank.redaction import hide
from autorank.searching.budget import Budget
from autorank.searching.confirm import pending
from autorank.searching.create import open_journal
from autorank.searching.ray import resources
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.searching.ray.cluster import connection
from autorank.searching.ray.ray_watch import RayLost, RayWatch
from autorank.searching.ray.tune_callback import Interrupt, SnapshotListener
from autorank.searching.sampling import catalogue
from autorank.searching.sampling.trial_planner import fitting_settings
from autorank.searching.space.param_bounds import (
    Bounds,
    LengthCheck,
    ParamBounds,
    any_length,
    parameter_range,
    run_length,
    sliced,
)
from autorank.searching.tune_session import Ending, Session
from autorank.spec import SearchSpec
from autorank.tasks.definition import TaskData
from autorank.tracking.background_logger import BackgroundLogger
from autorank.tracking.mlflow_sync import MLflowSync
from autorank.tracking.tracking_uri import uri_for_journal, validated_uri
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.provenance import data_description
from autorank.trials.record import ended_trials
from autorank.trials.retention import storage_folder
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        snapshot: The trials and the front.
        ending: Why it ended.
        tracked: Whether MLflow has everything; otherwise `autorank sync` sends the rest.
        unconfirmed: Number of missing confirmations.
    """

    snapshot: Snapshot
    ending: Ending
    tracked: bool
    unconfirmed: int


def search(
    spec: SearchSpec,
    folder: Path,
    budget: Budget,
    tracking_uri: str | None = None,
    progress: SnapshotListener | None = None,
    warn: Callable[[str], None] = logger.warning,
    inform: Callable[[str], None] = logger.info,
) -> Outcome:
    """Run a search, or resume it.

    After Ctrl-C the same call resumes the search, and its interrupted trials from their last evaluations.

    Args:
        spec: The search.
        folder: Its directory (see `retention.search_folder`).
        budget: Trials, time and resources.
        tracking_uri: Address of the MLflow store; None: no tracking.
        progress: Called twice a second with a snapshot.
        warn: Called with warnings.
        inform: Called with descriptions of the labels and of the first settings.

    Returns:
        How the search ended.

    Raises:
        AutorankError: The directory contains another search, data or model cannot be loaded, the resources do not
            suffice, packs are combined with a limit of memory, a method needs longer runs, the disk is full, or the
            first trials all fail for the same reason.
    """
    _check_budget(spec, budget, tracking_uri)
    # trials read them from the cache, and errors appear before anything starts
    data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
    if data.labels:
        inform(data.labels)
    for warning in data.warnings:
        warn(warning)
    bounds = ParamBounds(spec.task, spec.model)
    reference = reference_point(spec, bounds)
    check_length = bounds.length_check(run_length(spec, data).steps)
    for entry in spec.entries:
        fitting_settings(entry, bounds, check_length)
    for warning in _warnings(spec, bounds):
        warn(warning)
    if spec.catalogue and not spec.warm_start and not (folder / JOURNAL).exists():
        spec = _with_catalogue(spec, data, bounds, inform)
    with open_journal(spec, folder, lambda: reference) as journal:
        trainable = bind(WarmTrial, folder=journal.folder)
        return run_missing_trials(journal, trainable, bounds, budget, tracking_uri, progress, warn, data, check_length)


def reference_point(spec: SearchSpec, bounds: Bounds) -> tuple[float, float]:
    """Return the reference point of a search's hypervolume.

    It is a little beyond the largest adapter, so that its score counts; twice its size if all adapters have one size.

    Args:
        spec: The search.
        bounds: Bounds of adapter parameters.

    Returns:
        Adapter parameters and score.
    """
    fewest, most = parameter_range(spec, bounds)
    one_size = fewest == most and not any(sliced(spec, entry.method) for entry in spec.methods)
    return float(2 * most if one_size else most + 1), 0.0


def _check_budget(spec: SearchSpec, budget: Budget, tracking_uri: str | None) -> None:
    """Check what needs neither data nor model."""
    if tracking_uri is not None:
        validated_uri(tracking_uri)
    budget.check(spec.objectives)
    if budget.storage is not None:
        storage_folder(budget.storage, spec.name)
    if not budget.on_cluster:
        budget.share(resources.this_machine())


def _warnings(spec: SearchSpec, bounds: ParamBounds) -> list[str]:
    """Warnings about what is adapted and measured."""
    warnings = sorted(set(filter(None, map(bounds.unadapted, spec.entries))))
    if spec.objectives.max_memory or spec.objectives.third_objective == "memory":
        warnings.append("Memory is measured on GPUs; on a CPU it is 0.")
    return warnings


def _with_catalogue(spec: SearchSpec, data: TaskData, bounds: ParamBounds, inform: Callable[[str], None]) -> SearchSpec:
    """The search with first trials from the catalogue, where it has some that fit."""
    first_trials = catalogue.first_trials(spec, data, bounds)
    if first_trials:
        sources = catalogue.sources(first_trials)
        inform(f"First settings from the catalogue: {sources}. --no-catalogue leaves them out.")
    return spec.model_copy(update={"warm_start": first_trials})


def run_missing_trials(
    journal: Journal,
    trainable: type[WarmTrial],
    bounds: Bounds,
    budget: Budget,
    tracking_uri: str | None = None,
    progress: SnapshotListener | None = None,
    warn: Callable[[str], None] = logger.warning,
    data: TaskData | None = None,
    check_length: LengthCheck = any_length,
) -> Outcome:
    """Run the missing trials and confirmations of a journal. Errors as in `search`.

    Args:
        journal: The journal, open for writing.
        trainable: The class of Tune's actors.
        bounds: Bounds of adapter parameters.
        budget: See `search`.
        tracking_uri: See `search`.
        progress: See `search`.
        warn: See `search`.
        data: The task's tokenized data, which the nodes of a cluster receive.
        check_length: Check of the length of runs.

    Returns:
        How the search ended.
    """
    if journal.truncated_bytes:
        warn(f"The journal is truncated; ignoring the incomplete last line ({journal.truncated_bytes} bytes).")
    if data is not None:
        journal.store_data_description(description := data_description(data))
        if not journal.has_same_data(description):
            warn("The data or the tokenizer has changed since this search began, so its scores cannot be compared.")
    ended, options = len(ended_trials(journal.trials())), journal.options
    storage, tracking = budget.storage or options.get("storage"), options.get("tracking")
    untried_points = set(pending(journal, options.get("confirm", 0))) - set(journal.snapshot().confirmed)
    trials, confirm = budget.totals(options, ended, unconfirmed=bool(untried_points))
    output = storage_folder(storage, journal.search_id) if storage else journal.folder
    listeners: list[SnapshotListener] = [] if progress is None else [progress]
    mlflow_logger = None
    if tracking_uri is not None:
        runs = journal.folder.parent
        tracking = uri_for_journal(tracking_uri, runs)
        sync = MLflowSync(tracking_uri, journal.spec, journal.search_id, runs, journal.provenance)
        mlflow_logger = BackgroundLogger(sync, warn)
        listeners.append(mlflow_logger.update)
    session = Session(journal, trainable, bounds, budget, output, listeners, data, check_length)
    ending: Ending = "trials"
    try:
        if ended < max(trials, len(journal.trials())) or pending(journal, confirm):
            addresses = {name: uri for name, uri in (("storage", storage), ("tracking", tracking)) if uri}
            journal.set_options(trials=trials, confirm=confirm, **addresses)
            ending = _with_ray(session, trials, confirm, warn)
    except KeyboardInterrupt:  # while Ray starts, or a second Ctrl-C
        ending = "interrupted"
    finally:
        with contextlib.suppress(OSError):  # a full disk
            session.delete_unneeded_files()
        session.notify()
        tracked = mlflow_logger is None or mlflow_logger.close()
    return Outcome(journal.snapshot(), ending, tracked, len(pending(journal, confirm)))


def _with_ray(session: Session, trials: int, confirm: int, warn: Callable[[str], object]) -> Ending:
    """Run a session within Ray; a local Ray that dies is restarted once."""
    budget, log = session.budget, session.journal.folder / connection.LOG
    restarts = 1 if connection.is_local(budget.address) else 0
    while True:
        try:
            with connection.running(budget.address, log), Interrupt() as interrupt:
                trial_resources = _with_lanes(session, resources.cluster_nodes(), warn)
                with RayWatch(trial_resources, warn) as watch:
                    return session.run(trial_resources, trials, confirm, interrupt, watch)
        except RayLost as lost:
            if not restarts:
                raise
            restarts -= 1
            warn(f"{lost} Restarting Ray.")


def _with_lanes(
    session: Session, nodes: Sequence[Mapping[str, float]], warn: Callable[[str], object]
) -> resources.Resources:
    """The resources of each pack; without lanes, those of each trial."""
    budget = session.budget
    try:
        lanes = session.lanes(budget.share(nodes))
    except RayError as error:
        lines = str(error).strip().splitlines()
        warn(f"--lanes auto could not be measured; trials train alone. {hide(lines[-1])}")
        lanes = 1
    return replace(budget, lanes=lanes).share(nodes)
