"""MLflow as a projection of the journal: an experiment a name, a parent run a search, a nested run a trial.

Idempotent: what is on the server already is not sent again. So the code that sends a search live
(`autorank.results.tracker`) also catches up with one that went on without its server (`autorank sync`).
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from autorank.errors import AutorankError
from autorank.results.front import Point, progress
from autorank.results.plots import front_figure, hypervolume_figure
from autorank.results.records import Evaluation, State, TrialRecord
from autorank.results.report import front_columns, front_csv, front_json
from autorank.spec import SearchSpec

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

SEARCH, TRIAL = "autorank.search", "autorank.trial"  # tags by which runs are found: search id, trial number
_SENT = "autorank.sent"  # tag: the last step sent of a trial, the number of finished trials sent of a search
_STATUS: dict[State, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
_LONGEST_PARAM = 500  # characters; longer settings go into an artifact (MLflow cuts at 6,000)
_FIGURES_EVERY = 60.0  # seconds, while a search runs
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
_ENVIRONMENT = {  # set where the user has not: short waits, no chatter, no calls home
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # 7 by default: minutes. The tracker backs off by itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def default_uri(runs_dir: Path) -> str:
    """MLFLOW_TRACKING_URI, or an SQLite file in the folder of runs (absolute: Ray changes directories)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(runs_dir).resolve() / 'mlflow.db'}"


@dataclass
class _Run:
    """What the server has of a run."""

    id: str
    status: str = "RUNNING"
    sent: int = -1
    has_params: bool = False


class Projection:
    """Brings the MLflow store at `uri` up to date with a search (`search_id`, `reference`: its journal's)."""

    def __init__(self, uri: str, spec: SearchSpec, search_id: str, reference: tuple[float, float]) -> None:
        self.uri = checked(uri)
        self.spec = spec
        self._search_id = search_id
        self._reference = reference
        self._client: MlflowClient | None
        self._forget()
        self._figures_at = -math.inf

    def push(self, trials: Sequence[TrialRecord], points: Sequence[Point], final: bool = False) -> None:
        """Sends what is not there yet of the trials and their front. `final`: nobody is at work now.

        Raises AutorankError if the store cannot be reached or refuses; the next push goes on from there.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it may have been imported before
        try:
            client = self._connect(min((trial.started for trial in trials), default=time.time()))
            for trial in trials:
                self._push_trial(client, trial)
            self._push_parent(client, trials, points, final)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            self._forget()
            said = _root(error).replace(self.uri, shown(self.uri))
            raise AutorankError(
                f"MLflow at {shown(self.uri)} cannot be reached or refuses: {said}. Nothing is lost: "
                f"`autorank sync {self.spec.name}` catches up once it is there."
            ) from error

    def _forget(self) -> None:
        """Drops the cursors: of a call that failed here, nobody knows whether it worked there."""
        self._client = None
        self._experiment = ""
        self._parent = _Run("")
        self._runs: dict[int, _Run] = {}
        self._front = ""

    def _connect(self, started: float) -> MlflowClient:
        """The client, with its experiment, its parent run and what is there already."""
        if self._client is not None:
            return self._client
        from mlflow.tracking import MlflowClient

        store = self.uri.partition("sqlite:///")[2]
        if store:
            Path(store).parent.mkdir(parents=True, exist_ok=True)  # MLflow would retry for minutes
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self.spec.name)
        if experiment is None:
            # MLflow's default is ./mlruns, wherever the process happens to be; a server has its own place
            beside = str(Path(store).parent / "mlartifacts" / self.spec.name) if store else None
            self._experiment = client.create_experiment(self.spec.name, artifact_location=beside)
        elif experiment.lifecycle_stage == "deleted":
            raise AutorankError(
                f"The MLflow experiment {self.spec.name!r} was deleted. Bring it back with "
                f"`mlflow experiments restore -x {experiment.experiment_id}` "
                f"(MLFLOW_TRACKING_URI={shown(self.uri)}), or name another store with --tracking-uri."
            )
        else:
            self._experiment = experiment.experiment_id
        self._fetch(client)
        if not self._parent.id:
            self._parent = self._create(client, self.spec.name, started, {})
            client.log_text(self._parent.id, self.spec.model_dump_json(indent=2), "search.json")
        self._client = client
        return client

    def _fetch(self, client: MlflowClient) -> None:
        """Fills the cursors from what is on the server."""
        token = None
        while True:
            page = client.search_runs(
                [self._experiment], f"tags.`{SEARCH}` = '{self._search_id}'", page_token=token
            )
            for found in page:
                tags = found.data.tags
                run = _Run(
                    found.info.run_id, found.info.status, int(tags.get(_SENT, -1)), bool(found.data.params)
                )
                if TRIAL in tags:
                    self._runs[int(tags[TRIAL])] = run
                else:
                    self._parent = run
            token = page.token
            if not token:
                return

    def _create(self, client: MlflowClient, name: str, started: float, tags: Mapping[str, str]) -> _Run:
        own = {SEARCH: self._search_id, "mlflow.user": getpass.getuser(), "mlflow.source.name": "autorank"}
        run = client.create_run(self._experiment, _ms(started), own | dict(tags), run_name=name)
        return _Run(run.info.run_id)

    def _push_trial(self, client: MlflowClient, trial: TrialRecord) -> None:
        run = self._runs.get(trial.number)
        if run is not None and run.status != "RUNNING":
            return
        if run is None:
            tags = {TRIAL: str(trial.number), "mlflow.parentRunId": self._parent.id}
            run = self._create(client, f"trial-{trial.number}", trial.started, tags)
            self._runs[trial.number] = run
        if trial.config and not run.has_params:
            self._push_params(client, run, trial.config)
        new = [evaluation for evaluation in trial.evaluations if evaluation.step > run.sent]
        metrics = [metric for evaluation in new for metric in _metrics(evaluation, trial.started)]
        self._send(client, run, metrics, new[-1].step if new else run.sent)
        if trial.state != "running":
            self._end_trial(client, run, trial)

    def _push_params(self, client: MlflowClient, run: _Run, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        train = self.spec.train
        base = {"method": train.method, "task": train.task.name, "model": train.model or "the task's own"}
        texts = {key: str(value) for key, value in (base | dict(settings)).items()}
        if any(len(text) > _LONGEST_PARAM for text in texts.values()):
            client.log_dict(run.id, dict(settings), "settings.json")
        params = [Param(key, text) for key, text in texts.items() if len(text) <= _LONGEST_PARAM]
        for chunk in _chunks(params, 100):
            client.log_batch(run.id, params=chunk)
        run.has_params = True

    def _end_trial(self, client: MlflowClient, run: _Run, trial: TrialRecord) -> None:
        evaluations = [evaluation.to_dict() for evaluation in trial.evaluations]
        client.log_text(run.id, json.dumps(evaluations, indent=1), "evaluations.json")  # with all ranks
        client.set_tag(run.id, "autorank.state", trial.state)
        if trial.reason:
            client.set_tag(run.id, "autorank.reason", trial.reason)
        client.set_terminated(run.id, _STATUS[trial.state], _ms(trial.started + trial.seconds))
        run.status = _STATUS[trial.state]

    def _push_parent(
        self, client: MlflowClient, trials: Sequence[TrialRecord], points: Sequence[Point], final: bool
    ) -> None:
        run = self._parent
        if not run.has_params:
            self._push_params(client, run, {"sampler": self.spec.sampler, "seed": self.spec.seed})
        history = progress(trials, self._reference)
        metrics = []
        for finished, after in enumerate(history, start=1):
            if finished > run.sent:
                best = max((point.score for point in after.points), default=math.nan)
                size = len(after.points)
                values = {"hypervolume": after.hypervolume, "front_size": size, "best_score": best}
                metrics += _at(values, after.at, finished)
        self._send(client, run, metrics, max(run.sent, len(history)))
        self._push_front(client, trials, points, final)
        status = "FINISHED" if final else "RUNNING"
        if status != run.status:
            if final:
                client.set_terminated(run.id, status, _ms(history[-1].at) if history else None)
            else:
                client.update_run(run.id, status)  # the search was resumed
            run.status = status

    def _push_front(
        self, client: MlflowClient, trials: Sequence[TrialRecord], points: Sequence[Point], final: bool
    ) -> None:
        text = front_json(points)
        changed = text != self._front
        if changed:
            parent = self._parent.id
            columns, rows = front_columns(points)
            client.log_text(parent, text, "front.json")
            client.log_text(parent, front_csv(points), "front.csv")
            # MLflow's own table format; its log_table would append to the table that is there
            client.log_text(parent, json.dumps({"columns": columns, "data": rows}), "front_table.json")
            listed = [{"path": "front_table.json", "type": "table"}]
            client.set_tag(parent, "mlflow.loggedArtifacts", json.dumps(listed))
            self._front = text
        if final or (changed and time.monotonic() - self._figures_at > _FIGURES_EVERY):
            title = f"{self.spec.name}: {self.spec.train.method} on {self.spec.train.task.name}"
            front = front_figure(trials, points, title, self._reference)
            client.log_figure(self._parent.id, front, "front.png")
            client.log_figure(self._parent.id, hypervolume_figure(trials, self._reference), "hypervolume.png")
            self._figures_at = time.monotonic()

    @staticmethod
    def _send(client: MlflowClient, run: _Run, metrics: Sequence[Metric], sent: int) -> None:
        """Metrics in batches, then how far they reach. Cut off in between, they are sent again, which MLflow
        ignores: key, step, time and value are equal."""
        if sent == run.sent:
            return
        for chunk in _chunks(metrics, 1000):
            client.log_batch(run.id, metrics=chunk)
        client.set_tag(run.id, _SENT, str(sent))
        run.sent = sent


def shown(uri: str) -> str:
    """The URI without a password."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(user + at, "") if at else uri


def checked(uri: str) -> str:
    """The URI, an SQLite path made absolute; AutorankError for what MLflow 3 does not take."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES:
        raise AutorankError(
            f"The tracking URI {shown(uri)!r} is no place where MLflow keeps runs. "
            "Give a server (http://HOST:5000) or a database (sqlite:////absolute/path/mlflow.db)."
        )
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    return uri


def _root(error: BaseException) -> str:
    """The first line of what went wrong; of a connection, the system's own words ("Connection refused")."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    cause = next((each for each in reversed(chain) if isinstance(each, OSError)), error)
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")


def _metrics(evaluation: Evaluation, started: float) -> list[Metric]:
    counts = ("adapter_params", "nonzero_params", "trainable_params", "head_params", "peak_memory")
    names = ("epoch", "score", "train_loss", "seconds", *counts)
    values = evaluation.metrics | {name: getattr(evaluation, name) for name in names}
    return _at(values, started + evaluation.seconds, evaluation.step)


def _at(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    """Those that are finite: MLflow would store infinity as 1.8e308."""
    from mlflow.entities import Metric

    return [
        Metric(name, float(value), _ms(when), step) for name, value in values.items() if math.isfinite(value)
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
