"""The first lines of a journal: its Optuna study, the spec of the search and its provenance."""

from __future__ import annotations

import uuid
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from autorank.spec import SearchSpec
from autorank.trials import optuna_logging
from autorank.trials.provenance import revision

PACKAGES = ("autorank-lora", "mlflow", "optuna", "peft", "ray", "torch", "transformers")


def write_study(backend: BaseJournalBackend, spec: SearchSpec, reference: tuple[float, float]) -> None:
    """Write the first lines of a journal.

    Args:
        backend: The empty journal.
        spec: The search.
        reference: Reference point of the hypervolume (parameters, score).
    """
    with optuna_logging.quiet():
        study = optuna.create_study(
            storage=JournalStorage(backend), study_name=f"{spec.name}-{uuid.uuid4().hex[:8]}",
            directions=["minimize", "maximize"],
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["adapter_params", "score"])
    study.set_user_attr("spec", spec.model_dump(mode="json"))
    study.set_user_attr("reference", list(reference))
    study.set_user_attr("created", datetime.now(UTC).isoformat(timespec="seconds"))
    study.set_user_attr("versions", _versions())
    if code := revision():
        study.set_user_attr("revision", code)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
