"""Registers points of a front as versions of a model in MLflow's registry, which `mlflow.transformers` loads.

Only the adapter is stored, with a reference to its base model: the directory `base` in the search's directory
(`autorank.export.base_reference`).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.errors import AutorankError
from autorank.export.cards.rendering import render
from autorank.export.cards.usage_snippets import base_code
from autorank.export.export_point import PointExport
from autorank.export.mlflow_model import save_model
from autorank.spec import SearchSpec
from autorank.tracking.mlflow_client import quietly, store_errors
from autorank.tracking.mlflow_sync import SEARCH, TRIAL
from autorank.tracking.tracking_uri import sqlite_file, validated_uri
from autorank.trials.point import Point
from autorank.trials.selection import pick

if TYPE_CHECKING:
    from mlflow import MlflowClient


def aliased_points(points: Sequence[Point]) -> dict[str, Point]:
    """The points of a front that get an alias.

    Args:
        points: The front, not empty.

    Returns:
        `knee`, `smallest` and `best` -> point; one point may have several aliases.
    """
    return {
        "knee": pick(points),
        "smallest": min(points, key=lambda p: (p.adapter_params, -p.score)),
        "best": max(points, key=lambda p: (p.score, -p.adapter_params)),
    }


class Registry:
    """A registered model, created on first use. Registering a point again creates no new version.

    Args:
        uri: The MLflow store; its registry is used unless MLFLOW_REGISTRY_URI names another.
        name: The registered model.
        spec: The search.
        folder: The search's directory, which holds the reference to the base model.
        search_id: The id of the search's journal.
    """

    def __init__(self, uri: str, name: str, spec: SearchSpec, folder: Path, search_id: str) -> None:
        self.uri, self.name = validated_uri(uri), name
        self._spec, self._folder, self._search_id = spec, folder, search_id
        self._client: MlflowClient

    def open(self) -> None:
        """Connect to the store, before anything is written.

        Raises:
            AutorankError: The store cannot be reached, refuses the name, or does not have the search.
        """
        file = sqlite_file(self.uri)
        if file is not None and not file.exists():  # MLflow would create it
            raise self._unknown_search()
        with quietly(logging.ERROR):
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient

            _use_tracking_uri()
            with self._store_errors():
                self._client = MlflowClient(self.uri)
                experiment = self._client.get_experiment_by_name(self._spec.name)
                if experiment is None:
                    raise self._unknown_search()
                self._experiment = experiment.experiment_id
                try:
                    self._client.get_registered_model(self.name)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise

    def add(self, folder: Path, export: PointExport, aliases: Sequence[str]) -> int:
        """Register an export as a version with aliases, or give the aliases to the version that exists already.

        Args:
            folder: The written export.
            export: What it holds; see `mlflow_model.check_registrable`.
            aliases: Aliases that the version gets; other versions lose them.

        Returns:
            The version's number.

        Raises:
            AutorankError: The store refuses, or the base model's weights are not on this machine.
        """
        with quietly(logging.ERROR):
            version = self._existing_version(export) or self._create_version(folder, export)
            with self._store_errors():
                for alias in aliases:
                    self._client.set_registered_model_alias(self.name, alias, version)
        return int(version)

    def _existing_version(self, export: PointExport) -> str | None:
        """The number of the latest version of this point in this form."""
        tags = self._identity_tags(export).items()
        with self._store_errors():
            versions = self._client.search_model_versions(f"name = '{self.name}'")
        numbers = [int(version.version) for version in versions if tags <= version.tags.items()]
        return str(max(numbers)) if numbers else None

    def _create_version(self, folder: Path, export: PointExport) -> str:
        """Create a version; returns its number."""
        tags, point = self._tags(export), export.point
        with self._store_errors():
            run = self._trial_run(point.trial)
            name = f"trial-{point.trial}-step-{point.step}" + (
                f"-{point.adapter_params}" if point.component_masks else ""
            )
            model = self._client.create_logged_model(self._experiment, name, run, tags, model_type="transformers")
        with tempfile.TemporaryDirectory() as scratch:
            model_folder = Path(scratch) / "model"
            save_model(model_folder, folder, export, model.model_id, self._folder / "base")
            with self._store_errors():
                self._upload(model_folder, model.model_id, run, point)
        description = render(
            "version.md", point=point, spec=self._spec, form=export.form, settings=json.dumps(point.settings),
            base_code=base_code(export.origin), model_class=export.origin.head.model_class, model=self.name,
        )  # fmt: skip
        with self._store_errors(), _default_tracking_uri(self.uri):  # where a database store looks up the logged model
            version = self._client.create_model_version(
                self.name, f"models:/{model.model_id}", run, tags, description=description, model_id=model.model_id
            )
        return str(version.version)

    def _upload(self, model_folder: Path, model_id: str, run: str | None, point: Point) -> None:
        """Upload a logged model's files, and create the registered model if necessary."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        self._client.log_model_artifacts(model_id, str(model_folder))
        self._client.finalize_logged_model(model_id, "READY")
        if run is not None:
            self._client.log_outputs(run, [LoggedModelOutput(model_id, point.step)])
        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _trial_run(self, trial: int) -> str | None:
        """The id of the trial's run, if the store has it."""
        condition = f"tags.`{SEARCH}` = '{self._search_id}' and tags.`{TRIAL}` = '{trial}'"
        runs = self._client.search_runs([self._experiment], condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def _identity_tags(self, export: PointExport) -> dict[str, str]:
        """The tags by which a version is found again."""
        point = export.point
        values = {
            "search_id": self._search_id, "trial": point.trial, "step": point.step,
            "adapter_params": point.adapter_params, "form": export.form,
        }  # fmt: skip
        return {f"autorank.{name}": str(value) for name, value in values.items()}

    def _tags(self, export: PointExport) -> dict[str, str]:
        """All tags of a version."""
        point = export.point
        values = {
            "search": self._spec.name, "method": point.method, "score": f"{point.score:.6g}",
            "base_model": export.origin.public_model, "task": self._spec.task.name,
        }  # fmt: skip
        return self._identity_tags(export) | {f"autorank.{name}": str(value) for name, value in values.items()}

    def _store_errors(self) -> AbstractContextManager[None]:
        """Around calls of the client only."""
        return store_errors(self.uri, "Check --tracking-uri and --register, then run the command again.")

    def _unknown_search(self) -> AutorankError:
        return AutorankError(
            f"MLflow at {self.uri} has no search {self._spec.name!r}. Run `autorank sync {self._spec.name} "
            f"--tracking-uri {shlex.quote(self.uri)}` to send it there, or choose another store with --tracking-uri."
        )


def _use_tracking_uri() -> Callable[[str], AbstractContextManager[None]]:
    """MLflow's context manager that changes the tracking URI temporarily; the public functions have no way back."""
    try:
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri
    except ImportError as error:
        raise AutorankError(
            "--register does not support this version of MLflow. Run `pip install 'mlflow>=3.17,<4'`, or export with "
            "--to DIR."
        ) from error
    return _use_tracking_uri


@contextmanager
def _default_tracking_uri(uri: str) -> Iterator[None]:
    """Make MLflow's own functions use this store."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _use_tracking_uri()(uri):
            yield
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before  # MLflow deletes it
