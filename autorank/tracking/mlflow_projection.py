"""MLflow as a projection of the journal: an experiment a name, a parent run a search, a nested run a trial.

Idempotent: what is on the server already is not sent again. So the code that sends a search live
(`autorank.tracking.background_logger`) also catches up with one that went on without its server (`autorank sync`).
"""

from __future__ import annotations

import getpass
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.reporting.front_values import front_columns, front_csv, front_json
from autorank.reporting.html_report import render_report
from autorank.reporting.plots import front_figure, hypervolume_figure
from autorank.spec import SearchSpec
from autorank.tracking.mlflow_run import Run, metrics_at, ms
from autorank.tracking.tracking_uri import checked, sqlite_file
from autorank.trials.history import History
from autorank.trials.provenance import dataset, tags
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SEARCH, TRIAL = "autorank.search", "autorank.trial"  # tags by which runs are found: search id, trial number
_FIGURES_EVERY = 60.0  # seconds, while a search runs
ENVIRONMENT = {  # set where the user has not: short waits, no chatter, no calls home
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # 7 by default: minutes. The tracker backs off by itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def quietly(level: int = logging.WARNING) -> Iterator[None]:
    """Within it MLflow waits and says little, where the user has not said otherwise; then all is as it was."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    logger = logging.getLogger("mlflow")
    before = logger.level
    os.environ.update(added)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        for name in added:
            os.environ.pop(name, None)


class Projection:
    """Brings the MLflow store at `uri` up to date with a search (`search_id`, `reference`, `about`: its journal's;
    `runs`: the folder of runs)."""

    def __init__(
        self, uri: str, spec: SearchSpec, search_id: str, reference: tuple[float, float], runs: Path | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.uri = checked(uri)
        self.spec = spec
        self._search_id = search_id
        self._reference = reference
        self._folder = runs
        self._about = about or {}
        self._client: MlflowClient | None
        self._forget()
        self._figures_at = -math.inf

    def push(self, snapshot: Snapshot, final: bool = False) -> None:
        """Sends what is not there yet of the trials and their front. `final`: nobody is at work now.

        Raises AutorankError if the store cannot be reached or refuses; the next push goes on from there.
        """
        with quietly():
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                client = self._connect(snapshot.trials[0].started if snapshot.trials else time.time())
                for trial in snapshot.trials:
                    self._push_trial(client, trial, final)
                self._push_parent(client, snapshot, final)
            except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
                self._forget()
                raise AutorankError(
                    f"MLflow at {self.uri} cannot be reached or refuses: {_root(error)}. Nothing is lost: "
                    f"`autorank sync {self.spec.name}` catches up once it is there."
                ) from error

    def _forget(self) -> None:
        """Drops the cursors: of a call that failed here, nobody knows whether it worked there."""
        self._client = None
        self._experiment = ""
        self._parent = Run("")
        self._runs: dict[int, Run] = {}
        self._front = ""
        self._history = History(self._reference, self.spec.objectives)

    def _connect(self, started: float) -> MlflowClient:
        """The client, with its experiment, its parent run and what is there already."""
        if self._client is not None:
            return self._client
        from mlflow.tracking import MlflowClient

        store = sqlite_file(self.uri)
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)  # MLflow would retry for minutes
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self.spec.name)
        if experiment is None:
            # MLflow's default is ./mlruns, wherever the process happens to be; a server has its own place
            beside = None if store is None else str(store.parent / "mlartifacts" / self.spec.name)
            self._experiment = client.create_experiment(self.spec.name, artifact_location=beside)
        elif experiment.lifecycle_stage == "deleted":
            raise AutorankError(
                f"The MLflow experiment {self.spec.name!r} was deleted. Bring it back with "
                f"`mlflow experiments restore -x {experiment.experiment_id}` "
                f"(MLFLOW_TRACKING_URI={self.uri}), or name another store with --tracking-uri."
            )
        else:
            self._experiment = experiment.experiment_id
        self._fetch(client)
        if not self._parent.id:
            self._parent = self._create(client, self.spec.name, started, tags(self.spec, self._about, self._methods))
        self._client = client
        return client

    def _fetch(self, client: MlflowClient) -> None:
        """Fills the cursors from what is on the server."""
        token = None
        while True:
            page = client.search_runs([self._experiment], f"tags.`{SEARCH}` = '{self._search_id}'", page_token=token)
            for found in page:
                tags = found.data.tags
                run = Run.found(found)
                if TRIAL in tags:
                    number = int(tags[TRIAL])
                    self._runs[number] = self._one(client, run, self._runs.get(number))
                else:
                    self._parent = self._one(client, run, self._parent if self._parent.id else None)
            token = page.token
            if not token:
                return

    def _one(self, client: MlflowClient, run: Run, other: Run | None) -> Run:
        """Of two runs of one thing that with more in it; a server that was too slow to answer may have made both."""
        if other is None:
            return run
        kept, lesser = sorted((run, other), key=lambda each: (each.closed, each.sent, each.id), reverse=True)
        client.delete_run(lesser.id)
        return kept

    def _create(self, client: MlflowClient, name: str, started: float, tags: Mapping[str, str]) -> Run:
        own = {SEARCH: self._search_id, "mlflow.user": user_name(), "mlflow.source.name": "autorank"}
        run = client.create_run(self._experiment, ms(started), own | dict(tags), run_name=name)
        return Run(run.info.run_id)

    def _push_trial(self, client: MlflowClient, trial: TrialRecord, final: bool) -> None:
        run = self._runs.get(trial.number)
        if run is not None and run.closed:
            return
        if run is None:
            own = {TRIAL: str(trial.number), "mlflow.parentRunId": self._parent.id}
            known = tags(self.spec, self._about, trial.method)
            run = self._create(client, f"trial-{trial.number}", trial.started, known | own)
            self._runs[trial.number] = run
        run.push_trial(client, self.spec, trial, final)

    @property
    def _methods(self) -> str:
        return ",".join(entry.method for entry in self.spec.methods)

    def _push_parent(self, client: MlflowClient, snapshot: Snapshot, final: bool) -> None:
        run = self._parent
        if not run.has_params:
            client.log_text(run.id, self.spec.model_dump_json(indent=2), "search.json")
            if "data" in self._about:
                client.log_inputs(run.id, [dataset(self.spec, self._about["data"])])
            settings = {"sampler": self.spec.sampler, "seed": self.spec.seed}
            run.push_params(client, self.spec, self._methods, settings)
        history = self._history.update(snapshot.trials)
        metrics = []
        for finished, after in enumerate(history[max(0, run.sent) :], start=max(0, run.sent) + 1):
            values: dict[str, float] = {"hypervolume": after.hypervolume, "front_size": len(after.points)}
            if after.points:
                top = max(after.points, key=lambda point: point.score)
                values |= {"best_score": top.score, "best_adapter_params": top.adapter_params}
            metrics += metrics_at(values, after.at, finished)
        run.push_metrics(client, metrics, max(run.sent, len(history)))
        self._push_front(client, snapshot, final)
        status = "FINISHED" if final else "RUNNING"
        if final:
            client.set_terminated(run.id, status, ms(history[-1].at) if history else None)
        elif status != run.status:
            client.update_run(run.id, status)  # the search was resumed
        run.status = status

    def _push_front(self, client: MlflowClient, snapshot: Snapshot, final: bool) -> None:
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
            front = front_figure(snapshot, self.spec.title, self._reference)
            client.log_figure(self._parent.id, front, "front.png")
            growth = hypervolume_figure(self._history.steps, self._reference)
            client.log_figure(self._parent.id, growth, "hypervolume.png")
            self._figures_at = time.monotonic()
        if final:
            page = render_report(snapshot, self.spec, self._reference, self._folder)
            client.log_text(self._parent.id, page, "report.html")


def user_name() -> str:
    """Return the user's name, or the user id where the password database has no entry, as usual in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _root(error: BaseException) -> str:
    """The first line of what went wrong; of a connection, the system's own words ("Connection refused")."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    cause = next((each for each in reversed(chain) if isinstance(each, OSError)), error)
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
