"""Tags and dataset of MLflow runs: which data, code and packages a search used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autorank import tasks
from autorank.spec import SearchSpec, TaskSpec
from autorank.tasks.reading.location import is_path, on_hub

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

COMMIT = "mlflow.source.git.commit"  # the tag that MLflow's UI reads


def shown_model(task: TaskSpec, model: str | None) -> str:
    """Displayed name of the base model; independent of the machine where possible."""
    if model is None and task.name == "demo" and not task.own_data:
        return "shipped with autorank"
    return tasks.base_model(task, model)


def tags(spec: SearchSpec, provenance: Mapping[str, Any], method: str) -> dict[str, str]:
    """Tags of an MLflow run.

    Args:
        spec: The search.
        provenance: Provenance from the journal; missing entries are left out.
        method: Name of the method.

    Returns:
        Tag -> value.
    """
    values = {
        "search": spec.name,
        "method": method,
        "task": spec.task.name,
        "model": shown_model(spec.task, spec.model),
    }
    if "data" in provenance:
        values["dataset_digest"] = provenance["data"]["digest"]
    if provenance.get("revision"):
        values[COMMIT] = provenance["revision"]
    return values | {f"version.{package}": text for package, text in provenance.get("versions", {}).items()}


def dataset(spec: SearchSpec, data: Mapping[str, Any]) -> DatasetInput:
    """MLflow dataset input for the `data` that `data_description` returns."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    kind, source = _source(spec.task)
    rows = {"num_rows": data["examples"]["train"]}  # the key that MLflow's UI reads
    mlflow_dataset = Dataset(
        name=spec.task.name, digest=data["digest"], source_type=kind, source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": _columns(spec.task)}), profile=json.dumps(rows | data["examples"]),
    )  # fmt: skip
    return DatasetInput(mlflow_dataset, [InputTag("mlflow.data.context", "training")])


def _source(task: TaskSpec) -> tuple[str, dict[str, Any]]:
    """Where a task's examples come from, by MLflow's names of kinds of source."""
    hub = tasks.TASKS[task.name].hub if task.data is None else on_hub(task.data)
    if hub is not None:
        return "hugging_face", {"path": hub[0], "config_name": hub[1]}
    if task.data is not None:
        return ("local" if is_path(task.data) else task.data.partition("://")[0]), {"uri": task.data}
    return "code", {"tags": {"mlflow.source.name": "autorank"}}


def _columns(task: TaskSpec) -> list[dict[str, Any]]:
    """Columns and types; own data, which may be gone by now, are not read for it."""
    if task.own_data:
        (*text, label), numbers = task.columns, "string"
    else:
        builtin = tasks.TASKS[task.name]
        text, label, numbers = list(builtin.text), builtin.label, builtin.kind.column_type
    columns = [(name, "string") for name in text] + [(label, numbers)]
    return [{"name": name, "type": kind, "required": True} for name, kind in columns]
