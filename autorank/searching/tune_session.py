"""Runs the trials of a search and the confirmations of its front with Tune."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autorank.searching.budget import Budget
from autorank.searching.confirm import FOLDER as CONFIRMING
from autorank.searching.confirm import ConfirmSearcher, pending
from autorank.searching.journal_searcher import DEFAULT_EVALUATIONS, JournalSearcher
from autorank.searching.ray import shared_storage_check
from autorank.searching.ray.actors.lane_count import measured_lane_count
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.searching.ray.ray_watch import RayWatch
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.tune_callback import Interrupt, SnapshotListener, TuneCallback
from autorank.searching.ray.tune_run import fit, share_data
from autorank.searching.sampling.trial_planner import fitting_settings
from autorank.searching.space.param_bounds import Bounds, LengthCheck, any_length, run_length
from autorank.tasks.definition import TaskData
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import delete_unneeded, download_adapters
from autorank.trials.statistics import predictions

Ending = Literal["trials", "exhausted", "flat", "time budget", "interrupted"]


@dataclass
class Session:
    """A session of a search, from its start or resumption to its end.

    Attributes:
        journal: The journal, open for writing.
        trainable: The class of Tune's actors.
        bounds: Bounds of adapter parameters.
        budget: Trials, time and resources.
        output: Directory to which trials write: that of the journal, or object storage.
        listeners: Called with snapshots.
        data: The task's tokenized data, or None.
        check_length: Check of the length of runs.
    """

    journal: Journal
    trainable: type[WarmTrial]
    bounds: Bounds
    budget: Budget
    output: Path
    listeners: Sequence[SnapshotListener]
    data: TaskData | None
    check_length: LengthCheck = any_length

    def run(self, resources: Resources, trials: int, confirm: int, interrupt: Interrupt, watch: RayWatch) -> Ending:
        """Run the missing trials, then the missing confirmations.

        Args:
            resources: Resources of each trial.
            trials: Total number of trials.
            confirm: Number of seeds for confirmations.
            interrupt: Whether Ctrl-C was pressed.
            watch: Watches Ray.

        Returns:
            Why the session ended.

        Raises:
            RayLost: Ray has died; the method can be called again with a new Ray.
        """
        self.delete_unneeded_files()
        self.notify()
        journal, budget = self.journal, self.budget
        evaluations = DEFAULT_EVALUATIONS if self.data is None else run_length(journal.spec, self.data).evaluations
        trials_searcher = JournalSearcher(
            journal, self.bounds, trials, budget.deadline, budget.retries, evaluations=evaluations,
            on_evaluation=self.delete_unneeded_files, check_length=self.check_length,
            stop_when_flat=budget.stop_when_flat,
        )  # fmt: skip
        confirmations = ConfirmSearcher(journal, confirm, self.output / CONFIRMING, budget.deadline, budget.retries)
        remote = self._remote
        with shared_storage_check.keep_mount_token(self.output) if remote else contextlib.nullcontext() as mount_token:
            for searcher, folder in ((trials_searcher, self.output), (confirmations, self.output / CONFIRMING)):
                searcher.plan()
                if searcher.has_work() and not interrupt.requested:
                    shared_data = share_data(journal.spec, searcher is confirmations) if remote and self.data else None
                    trainable = bind(self.trainable, folder=folder, shared_data=shared_data, mount_token=mount_token)
                    callback = TuneCallback(searcher, interrupt, watch, self.notify)
                    fit(searcher, callback, trainable, resources, journal.folder)
        if interrupt.requested:
            return "interrupted"
        if trials_searcher.out_of_time and (
            trials_searcher.has_work() or trials_searcher.cut_off or pending(journal, confirm)
        ):
            return "time budget"
        if trials_searcher.flat:
            return "flat"
        return "exhausted" if trials_searcher.exhausted else "trials"

    @property
    def _remote(self) -> bool:
        """Whether trials may run on other machines."""
        return self.budget.on_cluster or self.output is not self.journal.folder

    def lanes(self, resources: Resources) -> int:
        """Return the number of lanes of each pack; for `auto`, chosen by measured throughput of the first method.

        Args:
            resources: Resources of each pack.

        Returns:
            The number.

        Raises:
            RayError: It could not be measured.
        """
        if self.budget.lanes != "auto":
            return self.budget.lanes
        if not resources.gpus:
            return 1
        spec = self.journal.spec
        entry = spec.methods[0]
        train = spec.train(entry.method, fitting_settings(entry, self.bounds, self.check_length))
        return measured_lane_count(
            train, resources, share_data(spec, final=False) if self._remote and self.data else None
        )

    def delete_unneeded_files(self) -> None:
        """Delete files that neither the front nor a running trial needs; fetch adapters of the front."""
        snapshot, folder = self.journal.snapshot(), self.journal.folder
        if self.output is not folder:
            download_adapters(folder, self.output, snapshot)
            delete_unneeded(self.output, snapshot)
        delete_unneeded(folder, snapshot)
        predictions.delete_unneeded(folder, snapshot)

    def notify(self) -> None:
        """Call the listeners with a snapshot."""
        snapshot = self.journal.snapshot()
        for listener in self.listeners:
            listener(snapshot)
