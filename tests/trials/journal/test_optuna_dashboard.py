"""optuna-dashboard on a search's journal: the requests of its pages, answered without a server."""

from __future__ import annotations

import json
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from tests.trials.trial_factories import evaluation

SAMPLED = {
    "learning_rate": (1e-3, FloatDistribution(1e-4, 1e-2, log=True)),
    "rank": (4, IntDistribution(1, 8)),
}


@pytest.fixture
def get_json(tmp_path, spec):
    """Return the dashboard's answer to a path, for a search with a trial of each state."""
    dashboard = pytest.importorskip("optuna_dashboard", reason="needs pip install optuna-dashboard")
    with Journal.create(tmp_path / "first", spec, (1000.0, 0.5)) as journal:
        for state in ("complete", "pruned", "failed", "running"):
            number = journal.begin("lora-drop", {"learning_rate": 1e-3, "rank": 4}, SAMPLED).number
            journal.record(number, evaluation(10, 100, 0.7))
            if state != "running":
                journal.finish(number, state, None if state == "complete" else "because")
    app = dashboard.wsgi(JournalStorage(JournalFileBackend(str(tmp_path / "first" / JOURNAL))))

    def answer(path):
        environment = {"PATH_INFO": path}
        setup_testing_defaults(environment)
        status = []
        body = b"".join(app(environment, lambda code, headers, error=None: status.append(code)))
        assert status[0].startswith("200"), (status, body)
        return json.loads(body)

    return answer


def test_the_dashboard_reads_a_search(get_json):
    (summary,) = get_json("/api/studies")["study_summaries"]
    assert summary["study_name"].startswith("first-") and summary["directions"] == ["minimize", "maximize"]
    study = get_json(f"/api/studies/{summary['study_id']}")
    assert study["directions"] == ["minimize", "maximize"] and study["objective_names"] == ["adapter_params", "score"]
    assert [trial["state"] for trial in study["trials"]] == ["Complete", "Pruned", "Fail", "Running"]
    complete, pruned, *_ = study["trials"]
    assert complete["values"] == [100.0, 0.7] and [trial["number"] for trial in study["best_trials"]] == [0]
    assert {item["name"]: item["param_external_value"] for item in complete["params"]} == {
        "learning_rate": "0.001", "rank": "4",
    }  # fmt: skip
    attributes = {item["key"]: item["value"] for item in pruned["user_attrs"]}  # strings as they are, all else as JSON
    assert attributes["method"] == "lora-drop" and attributes["reason"] == "because"
    assert json.loads(attributes["settings"]) == {"learning_rate": 1e-3, "rank": 4}
    assert json.loads(attributes["evaluation:10"])["score"] == 0.7
