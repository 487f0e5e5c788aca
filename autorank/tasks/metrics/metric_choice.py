"""Chooses the metrics of a task: its own, another one of its kind, or one of the user's own."""

from __future__ import annotations

from dataclasses import replace

from autorank.errors import AutorankError, unknown
from autorank.spec import TaskSpec
from autorank.tasks.definition import CORRELATIONS, Task
from autorank.tasks.metrics import text
from autorank.tasks.metrics.labels import CLASS_METRICS, RECALL
from autorank.tasks.own_metric import OwnMetric, installed


def with_metric(task: Task, spec: TaskSpec) -> Task:
    """Return a task with the metrics that its evaluations compute, the score first.

    Args:
        task: The task.
        spec: The user's options for the task.

    Returns:
        The task.

    Raises:
        AutorankError: There is no such metric of this kind of task.
    """
    metrics = text.chosen(task.metrics, spec.metric, spec.final) if task.kind.head.generates else task.metrics
    if spec.metric is None:
        return task if metrics == task.metrics else replace(task, metrics=metrics)
    if spec.metric_source or (spec.metric not in task.kind.metrics and spec.metric in installed()):
        own_metric = OwnMetric(spec.metric, spec.metric_source or "")
        if task.kind.head.generates and own_metric.name in text.FORWARD:
            raise AutorankError(f"Metric {spec.metric!r} has the name of another metric. Rename the function.")
        remaining = (name for name in metrics if name not in (*own_metric.names, spec.metric))
        return replace(task, metrics=(*own_metric.names, *remaining), own_metric=own_metric)
    _check(task, spec.metric, spec)
    return replace(task, metrics=(spec.metric, *(name for name in metrics if name != spec.metric)))


def _check(task: Task, metric: str, spec: TaskSpec) -> None:
    """Raise if this kind of task has no such metric."""
    kind, _, class_name = metric.partition(":")
    if kind == RECALL and RECALL in task.kind.metrics:
        if class_name not in task.label_names:
            raise unknown(f"class of {task.name}", class_name, task.label_names)
        return
    available = [name for name in task.kind.metrics if name != "f1" or task.outputs == 2 or not task.label_names]
    if metric in available:
        return
    by_label_type = task.kind.metrics == CORRELATIONS or RECALL in task.kind.metrics
    if spec.label is not None and by_label_type and metric in (*CORRELATIONS, *CLASS_METRICS):
        label_type, other_type = ("classes", "number") if task.label_names else ("numbers", "class")
        raise AutorankError(
            f"--metric {metric} is not a metric of {label_type}, and the labels in {spec.label!r} were read as "
            f"{label_type}. Add --label-type {other_type}, or use one of {', '.join(available)}."
        )
    choices = [f"{RECALL}:CLASS" if name == RECALL else name for name in available]
    raise unknown(f"metric of {task.name}", metric, [*choices, *installed(), "FILE.py:FUNCTION"])
