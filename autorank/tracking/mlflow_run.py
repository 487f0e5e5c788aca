"""A run on an MLflow server: what it contains, and sending what it lacks."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.reporting.front_csv_json import json_value
from autorank.reporting.rank_plots import rank_map_png
from autorank.spec import SearchSpec
from autorank.tracking.mlflow_provenance import shown_model
from autorank.tracking.search_page import GAIN
from autorank.training.evaluation import Evaluation, best
from autorank.trials.record import State, TrialRecord

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as ServerRun
    from mlflow.tracking import MlflowClient

_SENT_TAG = "autorank.sent"  # tag: of a trial the last step sent, of a search the number of finished trials sent
STATE = "autorank.state"  # tag: how a trial ended
_STATUS: dict[State, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
_LONGEST_PARAM = 500  # characters; longer settings are written to an artifact, since MLflow cuts parameters at 6,000


@dataclass
class MLflowRun:
    """What the server has of a run.

    Attributes:
        id: The run's id; empty if it does not exist yet.
        status: MLflow's status.
        sent: Last step sent (trial run) or number of finished trials sent (search run); -1: none.
        has_params: Whether its parameters were sent.
        closed: Whether everything of a finished trial was sent.
        gain: Gain over the baseline that was sent (trial run).
    """

    id: str
    status: str = "RUNNING"
    sent: int = -1
    has_params: bool = False
    closed: bool = False
    gain: float | None = None

    @classmethod
    def existing(cls, run: ServerRun) -> MLflowRun:
        """Describe a run of the server."""
        sent = int(run.data.tags.get(_SENT_TAG, -1))
        gain = run.data.metrics.get(GAIN)
        return cls(run.info.run_id, run.info.status, sent, bool(run.data.params), STATE in run.data.tags, gain)

    def push_params(self, client: MlflowClient, spec: SearchSpec, method: str, settings: Mapping[str, Any]) -> None:
        """Send method, task, model and settings.

        Args:
            client: The client.
            spec: The search.
            method: The method, or several, separated by commas.
            settings: The settings.
        """
        from mlflow.entities import Param

        base = {"method": method, "task": spec.task.name, "model": shown_model(spec.task, spec.model)}
        texts = {key: as_text(value) for key, value in (base | dict(settings)).items() if value is not None}
        if any(len(text) > _LONGEST_PARAM for text in texts.values()):
            client.log_dict(self.id, dict(settings), "settings.json")
        params = [Param(key, text) for key, text in texts.items() if len(text) <= _LONGEST_PARAM]
        for chunk in _chunks(params, 100):
            client.log_batch(self.id, params=chunk)
        self.has_params = True

    def push_metrics(self, client: MlflowClient, metrics: Sequence[Metric], sent: int) -> None:
        """Send metrics in batches, and with the last batch how far they reach.

        If this is interrupted, metrics are sent again, which MLflow ignores: key, step, time and value are equal.

        Args:
            client: The client.
            metrics: The metrics that the server lacks.
            sent: The new value of `sent`.
        """
        from mlflow.entities import RunTag

        if sent == self.sent:
            return
        *earlier, last = _chunks(metrics, 999) if metrics else ((),)  # MLflow accepts 1,000 entries, including the tag
        for chunk in earlier:
            client.log_batch(self.id, metrics=chunk)
        client.log_batch(self.id, metrics=last, tags=[RunTag(_SENT_TAG, str(sent))])
        self.sent = sent

    def push_gain(self, client: MlflowClient, gain: float, step: int) -> None:
        """Send a trial's gain over the baseline; of several values at one step, MLflow shows the latest.

        Args:
            client: The client.
            gain: The gain in score of the trial's best evaluation.
            step: The trial's last step.
        """
        client.log_metric(self.id, GAIN, gain, step=step)
        self.gain = gain

    def push_trial(self, client: MlflowClient, spec: SearchSpec, trial: TrialRecord, final: bool) -> None:
        """Send everything about a trial that the server lacks, and end the run if the trial or the session has ended.

        Args:
            client: The client.
            spec: The search.
            trial: The trial of this run.
            final: Whether the session has ended; a trial that is still running can then be resumed later.
        """
        if not self.has_params:
            self.push_params(client, spec, trial.method, trial.settings)
        metrics = [
            metric
            for count, evaluation in enumerate(trial.evaluations, start=1) if evaluation.step > self.sent
            for metric in _metrics(evaluation, best(trial.evaluations[:count]), trial.started)
        ]  # fmt: skip
        self.push_metrics(client, metrics, max(self.sent, trial.step) if trial.evaluations else self.sent)
        if not trial.is_running:
            self._end(client, spec, trial)
        elif final:
            self._terminate(client, "KILLED", trial.started + trial.seconds)
        elif self.status != "RUNNING":
            client.update_run(self.id, "RUNNING")
            self.status = "RUNNING"

    def _end(self, client: MlflowClient, spec: SearchSpec, trial: TrialRecord) -> None:
        evaluations = [replace(evaluation, slices=()).to_dict() for evaluation in trial.evaluations]
        client.log_text(self.id, json.dumps(json_value(evaluations), indent=1), "evaluations.json")  # with all ranks
        if slices := _slices(trial):
            columns = list(dict.fromkeys(name for row in slices for name in row))
            self.log_table(client, "slices.json", columns, [[row.get(name) for name in columns] for row in slices])
        if trial.evaluations and (ranks := trial.evaluations[-1].ranks):
            client.log_dict(self.id, ranks, "ranks.json")
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "ranks.png"
                picture.write_bytes(rank_map_png(tuple(ranks.items()), f"{trial.method} on {spec.task.name}"))
                client.log_artifact(self.id, str(picture))
        if trial.reason:
            client.set_tag(self.id, "autorank.reason", trial.reason)
        self._terminate(client, _STATUS[trial.state], trial.ended)
        client.set_tag(self.id, STATE, trial.state)  # last, because it marks the run as complete
        self.closed = True

    def log_table(self, client: MlflowClient, file: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write an artifact that the MLflow UI shows as a table, replacing an existing one.

        MLflow's own `log_table` would append to it.

        Args:
            client: The client.
            file: Name of the artifact.
            columns: Names of the columns.
            rows: The values.
        """
        client.log_text(self.id, json.dumps({"columns": columns, "data": rows}), file)
        client.set_tag(self.id, "mlflow.loggedArtifacts", json.dumps([{"path": file, "type": "table"}]))

    def _terminate(self, client: MlflowClient, status: str, ended: float) -> None:
        client.set_terminated(self.id, status, ms(ended))  # also for a run that was ended before and then resumed
        self.status = status


def _slices(trial: TrialRecord) -> list[dict[str, Any]]:
    """All slices of a trial, as rows of a table; metrics that are not finite become None."""
    return [
        {"step": evaluation.step, "adapter_params": slice_.adapter_params, "total_rank": sum(slice_.ranks.values())}
        | {
            name: value if math.isfinite(value) else None
            for name, value in ({"score": slice_.score} | slice_.metrics).items()
        }
        for evaluation in trial.evaluations
        for slice_ in evaluation.slices
    ]


def metrics_at(values: Mapping[str, float], time: float, step: int) -> list[Metric]:
    """Create metrics of the finite values; MLflow would store infinity as 1.8e308.

    Args:
        values: The values by name; characters that MLflow refuses in names (in `recall:C++`) become underscores.
        time: Unix time in seconds.
        step: Step of the metrics.

    Returns:
        The metrics.
    """
    from mlflow.entities import Metric

    return [
        Metric(re.sub(r"[^\w.\- :/]", "_", name), float(value), ms(time), step)
        for name, value in values.items() if math.isfinite(value)
    ]  # fmt: skip


def ms(seconds: float) -> int:
    """Convert seconds to milliseconds, MLflow's unit of time."""
    return int(seconds * 1000)


def as_text(value: Any) -> str:
    """Format a parameter: numbers without exponent, 0.0001 instead of 1e-04; lists and dicts as JSON."""
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(repr(value)), "f")
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def _metrics(evaluation: Evaluation, top: Evaluation | None, started: float) -> list[Metric]:
    """The metrics of an evaluation, including the score and parameters of `top`, the trial's best evaluation so far.

    MLflow compares runs by the latest values of metrics, hence `best_score` and `best_adapter_params`.
    """
    counts = ("adapter_params", "nonzero_params", "trainable_params", "head_params", "peak_memory")
    names = ("epoch", "score", "train_loss", "seconds", *counts)
    values = evaluation.metrics | {name: getattr(evaluation, name) for name in names}
    if ranks := evaluation.ranks:
        values["mean_rank"] = sum(ranks.values()) / len(ranks)
    if top is not None:
        values |= {"best_score": top.score, "best_adapter_params": top.adapter_params}
    return metrics_at(values, started + evaluation.seconds, evaluation.step)


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
