"""One run on an MLflow server: what it has already, and what it is still sent of a trial."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autorank.results.plots import rank_map_figure
from autorank.results.records import Evaluation, State, TrialRecord
from autorank.spec import TrainSpec

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as ServerRun
    from mlflow.tracking import MlflowClient

_SENT = "autorank.sent"  # tag: the last step sent of a trial, the number of finished trials sent of a search
_STATUS: dict[State, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
_LONGEST_PARAM = 500  # characters; longer settings go into an artifact (MLflow cuts at 6,000)


@dataclass
class Run:
    """What the server has of a run."""

    id: str
    status: str = "RUNNING"
    sent: int = -1
    has_params: bool = False

    @classmethod
    def found(cls, run: ServerRun) -> Run:
        """A run that is there already."""
        sent = int(run.data.tags.get(_SENT, -1))
        return cls(run.info.run_id, run.info.status, sent, bool(run.data.params))

    def push_params(self, client: MlflowClient, train: TrainSpec, settings: Mapping[str, Any]) -> None:
        """Sends what was trained and with which settings, once."""
        from mlflow.entities import Param

        base = {"method": train.method, "task": train.task.name, "model": train.model or "the task's own"}
        texts = {key: str(value) for key, value in (base | dict(settings)).items()}
        if any(len(text) > _LONGEST_PARAM for text in texts.values()):
            client.log_dict(self.id, dict(settings), "settings.json")
        params = [Param(key, text) for key, text in texts.items() if len(text) <= _LONGEST_PARAM]
        for chunk in _chunks(params, 100):
            client.log_batch(self.id, params=chunk)
        self.has_params = True

    def push_metrics(self, client: MlflowClient, metrics: Sequence[Metric], sent: int) -> None:
        """Metrics in batches, then how far they reach. Cut off in between, they are sent again, which MLflow
        ignores: key, step, time and value are equal."""
        if sent == self.sent:
            return
        for chunk in _chunks(metrics, 1000):
            client.log_batch(self.id, metrics=chunk)
        client.set_tag(self.id, _SENT, str(sent))
        self.sent = sent

    def push_trial(self, client: MlflowClient, train: TrainSpec, trial: TrialRecord) -> None:
        """Sends what the server lacks of the trial that this run stands for; ends the run with it."""
        if trial.config and not self.has_params:
            self.push_params(client, train, trial.config)
        new = [evaluation for evaluation in trial.evaluations if evaluation.step > self.sent]
        metrics = [metric for evaluation in new for metric in _metrics(evaluation, trial.started)]
        self.push_metrics(client, metrics, new[-1].step if new else self.sent)
        if trial.state != "running":
            self._end(client, train, trial)

    def _end(self, client: MlflowClient, train: TrainSpec, trial: TrialRecord) -> None:
        evaluations = [evaluation.to_dict() for evaluation in trial.evaluations]
        client.log_text(self.id, json.dumps(evaluations, indent=1), "evaluations.json")  # with all ranks
        if trial.evaluations and (ranks := trial.evaluations[-1].ranks):
            title = f"{train.method} on {train.task.name}: trial {trial.number}, step {trial.evaluations[-1].step}"
            client.log_dict(self.id, ranks, "ranks.json")
            client.log_figure(self.id, rank_map_figure(ranks, title), "ranks.png")
        client.set_tag(self.id, "autorank.state", trial.state)
        if trial.reason:
            client.set_tag(self.id, "autorank.reason", trial.reason)
        client.set_terminated(self.id, _STATUS[trial.state], ms(trial.started + trial.seconds))
        self.status = _STATUS[trial.state]


def metrics_at(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    """The values that are finite: MLflow would store infinity as 1.8e308. `when`: Unix time, seconds."""
    from mlflow.entities import Metric

    return [Metric(name, float(value), ms(when), step) for name, value in values.items() if math.isfinite(value)]


def ms(seconds: float) -> int:
    """MLflow's unit of time."""
    return int(seconds * 1000)


def _metrics(evaluation: Evaluation, started: float) -> list[Metric]:
    counts = ("adapter_params", "nonzero_params", "trainable_params", "head_params", "peak_memory")
    names = ("epoch", "score", "train_loss", "seconds", *counts)
    values = evaluation.metrics | {name: getattr(evaluation, name) for name in names}
    return metrics_at(values, started + evaluation.seconds, evaluation.step)


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
