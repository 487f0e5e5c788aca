"""Points of a front as versions of a model in MLflow's registry, which `mlflow.transformers` loads.

An adapter is registered alone, with a reference to its base: the folder `base` in the search's own
(`autorank.export.base_reference`).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.errors import AutorankError
from autorank.export.mlflow_model import save
from autorank.export.model_card import Found
from autorank.export.usage_snippets import Form, base_code
from autorank.modeling.adapter_file import Origin
from autorank.modeling.hub_access import public_name
from autorank.tracking.mlflow_projection import SEARCH, TRIAL, quietly
from autorank.tracking.tracking_uri import checked, sqlite_file
from autorank.trials.front import Point, pick

if TYPE_CHECKING:
    from mlflow import MlflowClient


def named(points: Sequence[Point]) -> dict[str, Point]:
    """Alias -> point of a front: `knee`, `smallest` and `best`, some of which may be one point."""
    return {
        "knee": pick(points),
        "smallest": min(points, key=lambda p: (p.adapter_params, -p.score)),
        "best": max(points, key=lambda p: (p.score, -p.adapter_params)),
    }


class Registry:
    """A registered model, made on first use. To add a point again makes no new version of it.

    Args:
        uri: of the MLflow store; the registry is the same, unless MLFLOW_REGISTRY_URI says otherwise.
        name: of the registered model.
        folder: the search's, in which the reference to the base is kept.
        search_id: its journal's.
    """

    def __init__(self, uri: str, name: str, found: Found, folder: Path, search_id: str) -> None:
        self.uri, self.name = checked(uri), name
        self._found, self._folder, self._search_id = found, folder, search_id
        self._client: MlflowClient

    def open(self) -> None:
        """Connect, before anything is written.

        Raises:
            AutorankError: the store cannot be reached or refuses the name, or does not know the search.
        """
        file = sqlite_file(self.uri)
        if file is not None and not file.exists():  # MLflow would make it
            raise self._unknown()
        with quietly(logging.ERROR):
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient

            _switch()
            with self._asked():
                self._client = MlflowClient(self.uri)
                experiment = self._client.get_experiment_by_name(self._found.spec.name)
                if experiment is None:
                    raise self._unknown()
                self._experiment = experiment.experiment_id
                try:
                    self._client.get_registered_model(self.name)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise

    def add(self, export: Path, form: Form, origin: Origin, point: Point, aliases: Sequence[str]) -> int:
        """Register an exported folder as a version, which then bears the aliases; returns its number.

        Where the point is registered already in this form, that is the version.

        Args:
            form, origin: as what `mlflow.transformers` can hold it; see `refuse`.

        Raises:
            AutorankError: the store refuses, or the base's weights are not on this machine.
        """
        with quietly(logging.ERROR):
            version = self._made(form, point) or self._make(export, form, origin, point)
            with self._asked():
                for alias in aliases:
                    self._client.set_registered_model_alias(self.name, alias, version)
        return int(version)

    def _made(self, form: Form, point: Point) -> str | None:
        """The number of the last version that is this point in this form."""
        wanted = self._identity(form, point).items()
        with self._asked():
            found = self._client.search_model_versions(f"name = '{self.name}'")
        numbers = [int(version.version) for version in found if wanted <= version.tags.items()]
        return str(max(numbers)) if numbers else None

    def _make(self, export: Path, form: Form, origin: Origin, point: Point) -> str:
        """A new version; its number."""
        tags = self._tags(form, origin, point)
        with self._asked():
            run = self._run_of(point.trial)
            model = self._client.create_logged_model(
                self._experiment, f"trial-{point.trial}-step-{point.step}", run, tags, model_type="transformers"
            )
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            save(folder, export, form, origin, model.model_id, self._folder / "base")
            with self._asked():
                self._send(folder, model.model_id, run, point)
        description = self._description(form, origin, point)
        with self._asked(), _default(self.uri):  # where a store that is a database looks the logged model up
            version = self._client.create_model_version(
                self.name, f"models:/{model.model_id}", run, tags, description=description, model_id=model.model_id
            )
        return str(version.version)

    def _send(self, folder: Path, model_id: str, run: str | None, point: Point) -> None:
        """Fill a logged model from a folder, and see that there is a registered model of which it can be a version."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        self._client.log_model_artifacts(model_id, str(folder))
        self._client.finalize_logged_model(model_id, "READY")
        if run is not None:
            self._client.log_outputs(run, [LoggedModelOutput(model_id, point.step)])
        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _run_of(self, trial: int) -> str | None:
        """The trial's run, where it is there."""
        wanted = f"tags.`{SEARCH}` = '{self._search_id}' and tags.`{TRIAL}` = '{trial}'"
        runs = self._client.search_runs([self._experiment], wanted, max_results=1)
        return runs[0].info.run_id if runs else None

    def _identity(self, form: Form, point: Point) -> dict[str, str]:
        """The tags that no other point's version has."""
        values = {"search_id": self._search_id, "trial": point.trial, "step": point.step, "form": form}
        return {f"autorank.{name}": str(value) for name, value in values.items()}

    def _tags(self, form: Form, origin: Origin, point: Point) -> dict[str, str]:
        values = {
            "search": self._found.spec.name, "method": point.method, "adapter_params": point.adapter_params,
            "score": f"{point.score:.6g}", "base_model": public_name(origin.model) or origin.model,
            "task": self._found.spec.task.name,
        }  # fmt: skip
        return self._identity(form, point) | {f"autorank.{name}": str(value) for name, value in values.items()}

    def _description(self, form: Form, origin: Origin, point: Point) -> str:
        text = (
            f"{point.method} on {self._found.spec.task.name}: {form}, trial {point.trial}, step {point.step} of the "
            f"search {self._found.spec.name}; {point.adapter_params:,} adapter parameters, score {point.score:.4f}.\n\n"
        )
        settings = f"Settings: `{json.dumps(point.config)}`\n\n"
        if form == "merged model":
            return text + settings
        return f"""{text}{settings}Where the folder of the base is not in reach, make one with this head, and name it:

```python
{base_code(origin)}
base.save_pretrained("base")
mlflow.transformers.load_model("models:/{self.name}/VERSION", base_model_path="base")
```
"""

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Around calls of the client alone: what goes wrong there is the store's doing."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise AutorankError(
                f"MLflow at {self.uri} cannot be reached or refuses {self.name!r}: {said}. Check --tracking-uri and "
                "--register, then give the command again."
            ) from error

    def _unknown(self) -> AutorankError:
        search = self._found.spec.name
        return AutorankError(
            f"MLflow at {self.uri} does not know the search yet. `autorank sync {search}` brings it there; "
            "--tracking-uri names another store."
        )


def _switch() -> Callable[[str], AbstractContextManager[None]]:
    """What makes MLflow's own functions use another store for a while; of the public ones none can be undone."""
    try:
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri
    except ImportError as error:
        raise AutorankError(
            "--register does not know this version of MLflow. `pip install 'mlflow>=3.17,<4'`, or export with --to DIR."
        ) from error
    return _use_tracking_uri


@contextmanager
def _default(uri: str) -> Iterator[None]:
    """Within it MLflow's own functions use this store."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _switch()(uri):
            yield
    finally:
        if given is not None:
            os.environ["MLFLOW_TRACKING_URI"] = given  # MLflow takes it away
