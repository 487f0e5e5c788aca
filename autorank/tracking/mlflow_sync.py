"""Creates MLflow runs from the journal: one experiment per name, one parent run per search, one child run per trial.

Updates are idempotent: data that is on the server is not sent again. So the same code updates MLflow during a search
(`autorank.tracking.background_logger`) and afterwards (`autorank sync`).
"""

from __future__ import annotations

import getpass
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.reporting.front_csv_json import front_columns, front_csv, front_json
from autorank.reporting.html_report import render_report
from autorank.reporting.plots import front_figure, hypervolume_figure
from autorank.spec import SearchSpec
from autorank.tracking.mlflow_client import quietly, store_errors
from autorank.tracking.mlflow_provenance import dataset, tags
from autorank.tracking.mlflow_run import MLflowRun, metrics_at, ms
from autorank.tracking.search_page import VIEW_TAG, view
from autorank.tracking.tracking_uri import sqlite_file, validated_uri
from autorank.training.evaluation import best
from autorank.trials.front import gain
from autorank.trials.history import History, HypervolumeStep
from autorank.trials.point import points_of
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SEARCH, TRIAL = "autorank.search", "autorank.trial"  # tags that identify runs: search id, trial number
ARTIFACTS = "mlartifacts"  # directory of artifacts beside a SQLite store
_FIGURES_EVERY = 60.0  # seconds between updates of figures while a search runs


class MLflowSync:
    """Updates an MLflow store with the state of a search.

    Args:
        uri: Address of the store.
        spec: The search.
        search_id: Id of the search, from its journal.
        runs: The directory of all searches.
        provenance: Provenance of the search, from the journal.

    Raises:
        AutorankError: MLflow does not support the address.
    """

    def __init__(
        self, uri: str, spec: SearchSpec, search_id: str, runs: Path | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.uri = validated_uri(uri)
        self.spec = spec
        self._search_id = search_id
        self._folder = runs
        self._provenance = provenance or {}
        self._client: MlflowClient | None
        self._forget()
        self._figures_at = -math.inf

    def push(self, snapshot: Snapshot, final: bool = False) -> None:
        """Send everything about the trials and their front that the server lacks.

        Args:
            snapshot: The state of the search.
            final: Whether the search has ended.

        Raises:
            AutorankError: The store cannot be reached or refuses the request; the next call continues from there.
        """
        remedy = f"No results are lost: run `autorank sync {self.spec.name}` when it is available again."
        try:
            with quietly(), store_errors(self.uri, remedy):
                client = self._connect(snapshot.trials[0].started if snapshot.trials else time.time())
                for trial in snapshot.trials:
                    self._push_trial(client, trial, final)
                self._push_gains(client, snapshot, final)
                self._push_parent(client, snapshot, final)
        except AutorankError:
            self._forget()
            raise

    def _forget(self) -> None:
        """Forget what the server has, because a call that failed here may have succeeded there."""
        self._client = None
        self._experiment = ""
        self._parent = MLflowRun("")
        self._runs: dict[int, MLflowRun] = {}
        self._front = ""
        self._history: History | None = None

    def _connect(self, started: float) -> MlflowClient:
        """Return the client; on the first call, find or create experiment and parent run and read existing runs."""
        if self._client is not None:
            return self._client
        from mlflow.tracking import MlflowClient

        store = sqlite_file(self.uri)
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)  # MLflow would retry for minutes
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self.spec.name)
        # MLflow's default is ./mlruns in the working directory; servers have their own location
        location = None if store is None else str(store.parent / ARTIFACTS / self.spec.name)
        if experiment is None:
            self._experiment = client.create_experiment(self.spec.name, artifact_location=location)
        elif experiment.lifecycle_stage == "deleted":
            raise AutorankError(
                f"The MLflow experiment {self.spec.name!r} was deleted. Restore it with "
                f"`mlflow experiments restore -x {experiment.experiment_id}` "
                f"(MLFLOW_TRACKING_URI={self.uri}), or use another store with --tracking-uri."
            )
        else:
            if store is not None:
                _check_not_moved(store, experiment.artifact_location, self.spec.name)
            self._experiment = experiment.experiment_id
        if experiment is None or experiment.tags.get(VIEW_TAG) != view(self.spec):
            client.set_experiment_tag(self._experiment, VIEW_TAG, view(self.spec))
        self._fetch(client)
        if not self._parent.id:
            self._parent = self._create(
                client, self.spec.name, started, tags(self.spec, self._provenance, self._methods)
            )
        self._client = client
        return client

    def _fetch(self, client: MlflowClient) -> None:
        """Read the existing runs of the search."""
        token = None
        while True:
            page = client.search_runs([self._experiment], f"tags.`{SEARCH}` = '{self._search_id}'", page_token=token)
            for server_run in page:
                tags = server_run.data.tags
                run = MLflowRun.existing(server_run)
                if TRIAL in tags:
                    number = int(tags[TRIAL])
                    self._runs[number] = self._deduplicate(client, run, self._runs.get(number))
                else:
                    self._parent = self._deduplicate(client, run, self._parent if self._parent.id else None)
            token = page.token
            if not token:
                return

    def _deduplicate(self, client: MlflowClient, run: MLflowRun, known_run: MLflowRun | None) -> MLflowRun:
        """Keep the run with more data and delete the other; a slow server can create two runs of one trial."""
        if known_run is None:
            return run
        best, duplicate = sorted((run, known_run), key=lambda r: (r.closed, r.sent, r.id), reverse=True)
        client.delete_run(duplicate.id)
        return best

    def _create(self, client: MlflowClient, name: str, started: float, tags: Mapping[str, str]) -> MLflowRun:
        fixed = {SEARCH: self._search_id, "mlflow.user": user_name(), "mlflow.source.name": "autorank"}
        run = client.create_run(self._experiment, ms(started), fixed | dict(tags), run_name=name)
        return MLflowRun(run.info.run_id)

    def _push_trial(self, client: MlflowClient, trial: TrialRecord, final: bool) -> None:
        run = self._runs.get(trial.number)
        if run is not None and run.closed:
            return
        if run is None:
            links = {TRIAL: str(trial.number), "mlflow.parentRunId": self._parent.id}
            common = tags(self.spec, self._provenance, trial.method)
            run = self._create(client, f"trial-{trial.number}", trial.started, common | links)
            self._runs[trial.number] = run
        run.push_trial(client, self.spec, trial, final)

    def _push_gains(self, client: MlflowClient, snapshot: Snapshot, final: bool) -> None:
        """Send each trial's gain over the baseline when it is first known, and again at the end if it has changed."""
        for trial in snapshot.trials if snapshot.baseline else ():
            run, top = self._runs[trial.number], best(trial.evaluations)
            if top is not None and not trial.baseline and (final or run.gain is None):
                trial_gain = gain(points_of(trial, top)[0], snapshot.baseline)
                if trial_gain is not None and round(trial_gain, 6) != run.gain:
                    run.push_gain(client, round(trial_gain, 6), trial.step)

    @property
    def _methods(self) -> str:
        return ",".join(entry.method for entry in self.spec.methods)

    def _push_parent(self, client: MlflowClient, snapshot: Snapshot, final: bool) -> None:
        run = self._parent
        if not run.has_params:
            client.log_text(run.id, self.spec.model_dump_json(indent=2), "search.json")
            if "data" in self._provenance:
                client.log_inputs(run.id, [dataset(self.spec, self._provenance["data"])])
            settings = {"sampler": self.spec.sampler, "seed": self.spec.seed}
            run.push_params(client, self.spec, self._methods, settings)
        self._history = self._history or History(snapshot.reference, snapshot.objectives)
        history = self._history.update(snapshot.trials)
        metrics = []
        for finished, state in enumerate(history[max(0, run.sent) :], start=max(0, run.sent) + 1):
            values: dict[str, float] = {"hypervolume": state.hypervolume, "front_size": len(state.points)}
            if state.points:
                top = max(state.points, key=lambda point: point.score)
                values |= {"best_score": top.score, "best_adapter_params": top.adapter_params}
            metrics += metrics_at(values, state.at, finished)
        run.push_metrics(client, metrics, max(run.sent, len(history)))
        self._push_front(client, snapshot, history, final)
        status = "FINISHED" if final else "RUNNING"
        if final:
            client.set_terminated(run.id, status, ms(history[-1].at) if history else None)
        elif status != run.status:
            client.update_run(run.id, status)  # the search was resumed
        run.status = status

    def _push_front(
        self, client: MlflowClient, snapshot: Snapshot, history: Sequence[HypervolumeStep], final: bool
    ) -> None:
        if not final:
            snapshot = replace(snapshot, folder=None)  # certainty takes a second to compute: only at the end
        text = front_json(snapshot)
        changed = text != self._front
        if changed:
            parent = self._parent.id
            columns, rows = front_columns(snapshot)
            client.log_text(parent, text, "front.json")
            client.log_text(parent, front_csv(snapshot), "front.csv")
            self._parent.log_table(client, "front_table.json", columns, rows)
            self._front = text
        if final or (changed and time.monotonic() - self._figures_at > _FIGURES_EVERY):
            front = front_figure(snapshot, self.spec.title)
            client.log_figure(self._parent.id, front, "front.png")
            growth = hypervolume_figure(history, snapshot.reference)
            client.log_figure(self._parent.id, growth, "hypervolume.png")
            self._figures_at = time.monotonic()
        if final:
            page = render_report(snapshot, self.spec, self._folder)
            client.log_text(self._parent.id, page, "report.html")


def user_name() -> str:
    """Return the user's name, or the user id if the password database has no entry, as usual in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _check_not_moved(store: Path, location: str, name: str) -> None:
    """Check that artifacts will be beside a SQLite store, not in the directory from which it was moved away."""
    artifacts = Path(location)
    is_ours = "://" not in location and artifacts.parts[-2:] == (ARTIFACTS, name)
    if is_ours and not (artifacts.parents[1] / store.name).exists():
        raise AutorankError(
            f"The MLflow store {store} was moved, but its artifacts would go to {artifacts}. Move the file away "
            "and send each search again with `autorank sync NAME`, or move the directory back."
        )
