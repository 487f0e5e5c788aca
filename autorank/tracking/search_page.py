"""The page of a search in MLflow: its runs with method, parameters, score and gain, best score first."""

from __future__ import annotations

import json

from autorank.errors import AutorankError
from autorank.redaction import hide
from autorank.spec import SearchSpec
from autorank.tracking.mlflow_client import quietly, store_errors

GAIN = "gain_over_baseline"
VIEW = "autorank"  # name of the view in addresses
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # tag of an experiment, in which MLflow stores a view to be shared


def view(spec: SearchSpec) -> str:
    """Return the view of a search's runs as MLflow stores it: columns and order.

    Args:
        spec: The search; the gain is a column if it has a baseline.

    Returns:
        The value of the tag VIEW_TAG.
    """
    widths = {"params.`method`": 110, "metrics.`best_adapter_params`": 170, "metrics.`best_score`": 110}  # pixels
    if spec.baseline is not None:
        widths[f"metrics.`{GAIN}`"] = 170
    columns = list(widths)
    order = {"orderByKey": "metrics.`best_score`", "orderByAsc": False}
    return json.dumps({"selectedColumns": columns, "columnOrder": columns, "columnWidths": widths} | order)


def page(uri: str, name: str | None = None) -> str:
    """Find the page of a search.

    Args:
        uri: Address of the store.
        name: The search's name; None: the search with the latest change.

    Returns:
        The path and fragment of the page's address; that of the list of experiments if nothing is tracked yet.

    Raises:
        AutorankError: No search of this name is tracked in the store, or the store cannot be reached.
    """
    training = "workflowType=machine_learning"
    with quietly(), store_errors(uri, "Check --tracking-uri."):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        experiments = (
            client.search_experiments(order_by=["last_update_time DESC"])
            if name is None else [client.get_experiment_by_name(name)]
        )  # fmt: skip
    searches = [experiment for experiment in experiments if experiment is not None and VIEW_TAG in experiment.tags]
    if searches:
        return f"/#/experiments/{searches[0].experiment_id}/runs?viewStateShareKey={VIEW}&{training}"
    if name is not None:
        raise AutorankError(
            f"The search {name!r} is not tracked in {hide(uri)}. To add it, run `autorank sync` with the name of its "
            "directory; to use another store, --tracking-uri."
        )
    return f"/#/experiments?{training}"
