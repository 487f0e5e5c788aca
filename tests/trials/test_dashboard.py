"""optuna-dashboard on a search's journal: what its pages ask for, answered without a server."""

from __future__ import annotations

import json
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from tests.trials.made_trials import evaluation

DRAWN = {
    "learning_rate": (1e-3, FloatDistribution(1e-4, 1e-2, log=True)),
    "rank": (4, IntDistribution(1, 8)),
}


@pytest.fixture
def ask(tmp_path, spec):
    """Its answer to a path, for a search with a trial of each state."""
    dashboard = pytest.importorskip("optuna_dashboard", reason="needs pip install optuna-dashboard")
    with Journal.create(tmp_path / "first", spec, (1000.0, 0.5)) as journal:
        for state in ("complete", "pruned", "failed", "running"):
            number = journal.begin("lora-drop", {"learning_rate": 1e-3, "rank": 4}, DRAWN).number
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


def test_the_dashboard_reads_a_search(ask):
    (summary,) = ask("/api/studies")["study_summaries"]
    assert summary["study_name"].startswith("first-") and summary["directions"] == ["minimize", "maximize"]
    study = ask(f"/api/studies/{summary['study_id']}")
    assert study["directions"] == ["minimize", "maximize"] and study["objective_names"] == ["adapter_params", "score"]
    assert [trial["state"] for trial in study["trials"]] == ["Complete", "Pruned", "Fail", "Running"]
    complete, pruned, *_ = study["trials"]
    assert complete["values"] == [100.0, 0.7] and [trial["number"] for trial in study["best_trials"]] == [0]
    assert {each["name"]: each["param_external_value"] for each in complete["params"]} == {
        "learning_rate": "0.001", "rank": "4",
    }  # fmt: skip
    told = {each["key"]: each["value"] for each in pruned["user_attrs"]}  # texts as they are, all else as JSON
    assert told["method"] == "lora-drop" and told["reason"] == "because"
    assert json.loads(told["settings"]) == {"learning_rate": 1e-3, "rank": 4}
    assert json.loads(told["evaluation:10"])["score"] == 0.7
