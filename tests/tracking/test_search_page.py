"""The page of a search in MLflow: its view, stored with the experiment, and its address."""

from __future__ import annotations

import json

import pytest

from autorank.errors import AutorankError
from autorank.tracking.search_page import VIEW_TAG, page, view
from tests.trials.trial_factories import search, snapshot


def test_columns_of_a_search():
    columns = json.loads(view(search(baseline=True)))["selectedColumns"]
    assert columns == [
        "params.`method`", "metrics.`best_adapter_params`", "metrics.`best_score`", "metrics.`gain_over_baseline`",
    ]  # fmt: skip
    assert json.loads(view(search()))["selectedColumns"] == columns[:3]


def test_the_page_of_a_search_is_found_by_name_and_otherwise_the_latest(new_sync, own, store, client, trials):
    new_sync().push(snapshot(trials))
    experiment = client.get_experiment_by_name(own.name)
    assert json.loads(experiment.tags[VIEW_TAG]) == json.loads(view(own))
    address = f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=autorank&workflowType=machine_learning"
    assert page(store, own.name) == page(store) == address


def test_a_search_that_is_not_tracked(store):
    with pytest.raises(AutorankError, match=r"'missing' is not tracked in .*autorank sync"):
        page(store, "missing")


def test_a_server_that_does_not_answer():
    with pytest.raises(AutorankError, match=r"http://127.0.0.1:9 cannot be reached or rejects .*refused"):
        page("http://127.0.0.1:9", "first")


def test_a_store_without_searches(tmp_path):
    assert page(f"sqlite:///{tmp_path / 'new.db'}") == "/#/experiments?workflowType=machine_learning"
