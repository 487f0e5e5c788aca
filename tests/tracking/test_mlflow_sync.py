"""A search as MLflow runs: parameters, metrics, tags and artifacts, with exact counts."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import uuid
from functools import partial
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.modeling import rank_map
from autorank.reporting.html_report import render_report
from autorank.tasks.named.demo import DEMO
from autorank.tracking.mlflow_run import MLflowRun, as_text, metrics_at
from autorank.tracking.mlflow_sync import MLflowSync, user_name
from tests.tracking.mlflow_reader import history, text
from tests.trials.journals import REFERENCE
from tests.trials.trial_factories import START, base_ranks, evaluation, search, sliced, trial
from tests.trials.trial_factories import snapshot as made_snapshot

snapshot = partial(made_snapshot, reference=REFERENCE)


def test_a_search_as_runs(new_sync, trials, client, server_runs):
    new_sync().push(snapshot(trials))
    parent, nested = server_runs()
    assert [nested[number].info.status for number in range(4)] == ["FINISHED", "KILLED", "FAILED", "RUNNING"]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in nested.values())
    assert nested[2].data.tags["autorank.reason"] == "diverged at step 10"
    assert nested[0].data.params == {
        "method": "lora-drop",
        "task": "demo",
        "model": "shipped with autorank",
        "learning_rate": "0.001",
        "rank": "8",
    }
    assert history(client, nested[0], "score") == [(10, 0.6), (20, 0.7)]
    assert history(client, nested[0], "adapter_params") == [(10, 100), (20, 100)]
    assert history(client, nested[2], "score") == []  # NaN is not sent
    assert history(client, nested[2], "train_loss") == [(10, 0.1)]
    assert nested[0].info.start_time == 1_700_000_000_000
    assert nested[0].info.end_time == 1_700_000_060_000
    assert nested[3].info.end_time is None
    assert [nested[number].data.tags.get("autorank.state") for number in range(4)] == [
        "complete", "pruned", "failed", None,
    ]  # fmt: skip
    tags = {
        "search": parent.data.tags["search"], "method": "lora-drop", "task": "demo", "model": "shipped with autorank",
        "dataset_digest": "0123456789abcdef", "mlflow.source.git.commit": "f" * 40, "version.autorank": "0.1.0",
        "version.torch": "2.13.0",
    }  # fmt: skip
    assert all(tags.items() <= run.data.tags.items() for run in (parent, *nested.values()))
    assert json.loads(text(client, nested[0], "evaluations.json"))[1]["ranks"]["layer.0.query"] == 4


def test_slices_of_a_finished_trial_are_a_table(new_sync, trials, client, server_runs):
    trials[0] = trial(0, (100, 0.6), sliced(20, 100, 0.7, (20, 0.5), (50, math.nan)))
    for _ in range(2):  # a repeated sync changes nothing
        new_sync().push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert json.loads(text(client, nested[0], "slices.json")) == {
        "columns": ["step", "adapter_params", "total_rank", "score", "accuracy"],
        "data": [[20, 20, 1, 0.5, 0.5], [20, 50, 2, None, None]],
    }
    assert json.loads(nested[0].data.tags["mlflow.loggedArtifacts"]) == [{"path": "slices.json", "type": "table"}]
    assert json.loads(text(client, nested[0], "evaluations.json"))[1]["slices"] == []
    assert [artifact.path for artifact in client.list_artifacts(nested[1].info.run_id)].count("slices.json") == 0
    front = json.loads(text(client, parent, "front_table.json"))
    assert [row[front["columns"].index("cut_from")] for row in front["data"]] == [100, None, None, None]
    assert history(client, parent, "front_size")[0] == (1, 2)


def test_gains_over_the_baseline_are_corrected_at_the_end(new_sync, client, server_runs):
    trials = [trial(0, (100, 0.6), (200, 0.7)), trial(1, (50, 0.5), (150, 0.55), method="lora", baseline=True)]
    trials.append(trial(2, (40, 0.4)))  # smaller than any baseline: no gain
    sync = new_sync()
    sync.push(snapshot(trials))
    trials.append(trial(3, (180, 0.62), method="lora", baseline=True))
    sync.push(snapshot(trials))
    _, nested = server_runs()
    assert [nested[number].data.metrics.get("gain_over_baseline") for number in range(4)] == [0.15, None, None, None]
    for _ in range(2):  # a repeated sync changes nothing
        new_sync().push(snapshot(trials), final=True)
    _, nested = server_runs()
    assert [nested[number].data.metrics.get("gain_over_baseline") for number in range(4)] == [0.08, None, None, None]
    assert len(history(client, nested[0], "gain_over_baseline")) == 2


def test_a_finished_trial_has_its_last_ranks(new_sync, trials, client, server_runs):
    last_ranks = {"layer.0.query": 7, "layer.1.query": 1}
    trials[0] = trial(0, (100, 0.6), evaluation(20, 100, 0.7, ranks=last_ranks))
    trials.append(trial(4, state="failed", reason="out of memory"))
    new_sync().push(snapshot(trials))
    _, nested = server_runs()
    ranks = rank_map.read(Path(client.download_artifacts(nested[0].info.run_id, "ranks.json")))
    assert list(ranks.items()) == [("layer.0.query", 7), ("layer.1.query", 1)]
    png = Path(client.download_artifacts(nested[0].info.run_id, "ranks.png"))
    assert png.read_bytes().startswith(b"\x89PNG")
    for number in (3, 4):  # a running trial; a trial without an evaluation
        artifacts = {artifact.path for artifact in client.list_artifacts(nested[number].info.run_id)}
        assert not artifacts & {"ranks.json", "ranks.png"}


def test_the_parent_run_describes_the_search(new_sync, trials, client, server_runs, own, front_of):
    new_sync().push(snapshot(trials), final=True)
    parent, _ = server_runs()
    assert parent.info.status == "FINISHED" and parent.data.params["sampler"] == "tpe"
    # after trial 0: 900 x 0.2; trial 1 at (50, 0.65) adds 50 x 0.15 to its left; trial 2 adds nothing
    volumes = [0.36, (900 * 0.2 + 50 * 0.15) / 500, (900 * 0.2 + 50 * 0.15) / 500]
    assert [step for step, _ in history(client, parent, "hypervolume")] == [1, 2, 3]
    assert [value for _, value in history(client, parent, "hypervolume")] == pytest.approx(volumes)
    assert history(client, parent, "front_size") == [(1, 1), (2, 2), (3, 2)]
    assert history(client, parent, "best_score") == [(1, 0.7), (2, 0.7), (3, 0.7)]

    assert [p["adapter_params"] for p in json.loads(text(client, parent, "front.json"))] == [50, 100, 400]
    assert text(client, parent, "front.csv").startswith("trial,step,method,adapter_params,")
    assert json.loads(text(client, parent, "search.json"))["name"] == own.name
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {"front.png", "hypervolume.png"} <= names
    assert text(client, parent, "report.html") == render_report(snapshot(trials), own)
    table = front_of(parent)
    assert list(table["score"]) == pytest.approx([0.65, 0.7, 0.9])
    assert list(table["settings.rank"]) == [8, 8, 8]


def test_the_data_are_logged_as_an_mlflow_dataset(new_sync, trials, client, server_runs):
    for _ in range(2):
        new_sync().push(snapshot(trials), final=True)
    parent, _ = server_runs()
    (dataset_input,) = client.get_run(parent.info.run_id).inputs.dataset_inputs
    assert (dataset_input.dataset.name, dataset_input.dataset.digest) == ("demo", "0123456789abcdef")
    assert json.loads(dataset_input.dataset.profile) == {"num_rows": 2000, "train": 2000, "validation": 400}
    assert {column["name"] for column in json.loads(dataset_input.dataset.schema)["mlflow_colspec"]} == {
        *DEMO.text,
        DEMO.label,
    }
    assert [(tag.key, tag.value) for tag in dataset_input.tags] == [("mlflow.data.context", "training")]


def test_the_latest_values_are_those_of_the_best_evaluation(new_sync, client, server_runs):
    falling = trial(0, (100, 0.7), (90, 0.8), (80, 0.6))
    new_sync().push(snapshot([falling]), final=True)
    parent, nested = server_runs()
    assert nested[0].data.metrics["score"] == 0.6
    for run in (parent, nested[0]):
        assert (run.data.metrics["best_score"], run.data.metrics["best_adapter_params"]) == (0.8, 90)
    assert history(client, nested[0], "best_adapter_params") == [(10, 100), (20, 90), (30, 90)]


@pytest.mark.parametrize("count", [998, 999, 1000, 2500])
def test_batches_respect_the_limit_of_mlflow(client, store, count):
    experiment = client.create_experiment(uuid.uuid4().hex)
    run = MLflowRun(client.create_run(experiment).info.run_id)
    run.push_metrics(client, [m for step in range(count) for m in metrics_at({"score": 0.1}, START, step)], count)
    stored_run = client.get_run(run.id)
    assert len(client.get_metric_history(run.id, "score")) == count and MLflowRun.existing(stored_run).sent == count


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1e-5, "0.00001"), (0.001, "0.001"), (16.0, "16.0"), (8, "8"), (True, "True"), (math.inf, "inf"),
     ((3e-4, 0.5), "[0.0003, 0.5]"), ("query,value", "query,value")],
)  # fmt: skip
def test_parameter_values_as_text(value, expected):
    assert as_text(value) == expected


def test_settings_without_a_value_are_not_logged(new_sync, client, server_runs):
    new_sync().push(snapshot([trial(0, (100, 0.6), settings={"rank": 8, "interval": None})]))
    _, nested = server_runs()
    assert "interval" not in nested[0].data.params and nested[0].data.params["rank"] == "8"


def test_the_report_is_rendered_only_at_the_end(new_sync, trials, monkeypatch):
    reports = []
    monkeypatch.setattr("autorank.tracking.mlflow_sync.render_report", lambda *_: reports.append("report") or "page")
    sync = new_sync()
    sync.push(snapshot(trials[:1]))
    sync.push(snapshot(trials))
    assert not reports
    sync.push(snapshot(trials), final=True)
    assert reports == ["report"]


def test_several_methods_and_the_baseline(store, own, client, server_runs, front_of):
    spec = search("lora-drop", "adalora", baseline=True, name=own.name)
    trials = [
        trial(0, (100, 0.6)),
        trial(1, (50, 0.9), method="adalora", settings={"target_rank": 4}),
        trial(2, (40, 0.95), method="lora", baseline=True),
    ]
    MLflowSync(store, spec, "s1").push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert parent.data.params["method"] == "lora-drop,adalora"
    assert [nested[number].data.params["method"] for number in range(3)] == ["lora-drop", "adalora", "lora"]
    volumes = [0.9 * 0.1 / 0.5, 0.95 * 0.4 / 0.5, 0.95 * 0.4 / 0.5]  # the baseline's better point adds nothing
    assert [value for _, value in history(client, parent, "hypervolume")] == pytest.approx(volumes)
    assert history(client, parent, "best_score") == [(1, 0.6), (2, 0.9), (3, 0.9)]
    table = front_of(parent)
    assert list(table["method"]) == ["adalora"] and list(table["gain_over_baseline"]) == pytest.approx([-0.05])


def test_long_settings_become_an_artifact(new_sync, client, server_runs):
    ranks = base_ranks()
    trials = [trial(0, (100, 0.6), settings={"rank": 8, "rank_pattern": ranks})]
    new_sync().push(snapshot(trials))
    _, nested = server_runs()
    assert "rank_pattern" not in nested[0].data.params and nested[0].data.params["rank"] == "8"
    assert json.loads(text(client, nested[0], "settings.json"))["rank_pattern"] == ranks


def test_artifacts_lie_beside_the_store(new_sync, store, trials, tmp_path, monkeypatch, server_runs, own):
    monkeypatch.chdir(tmp_path)
    new_sync().push(snapshot(trials), final=True)
    home = Path(store.removeprefix("sqlite:///")).parent
    assert server_runs()[0].info.artifact_uri.startswith(str(home / "mlartifacts" / own.name))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_moved_is_refused(new_sync, store, trials, tmp_path):
    new_sync().push(snapshot(trials))
    file = Path(store.removeprefix("sqlite:///"))
    shutil.copy(file, tmp_path / file.name)
    new_sync(uri=f"sqlite:///{tmp_path / file.name}").push(snapshot(trials))  # a copy; the original is still there
    (tmp_path / "b").mkdir()
    moved = tmp_path / "b" / file.name
    shutil.copy(file, moved)
    database = sqlite3.connect(moved)
    database.execute("UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", (
        str(file.parent), str(tmp_path / "gone")))  # fmt: skip
    database.commit()
    with pytest.raises(AutorankError, match=f"{moved} was moved, but its artifacts would go to {tmp_path}/gone/mlart"):
        new_sync(uri=f"sqlite:///{moved}").push(snapshot(trials))
    assert not (tmp_path / "gone").exists()


def test_a_deleted_experiment_is_named(new_sync, trials, client, own):
    new_sync().push(snapshot(trials))
    client.delete_experiment(client.get_experiment_by_name(own.name).experiment_id)
    with pytest.raises(AutorankError, match="mlflow experiments restore"):
        new_sync().push(snapshot(trials))


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4242"), OSError("No username set")])
def test_a_user_without_a_passwd_entry_is_the_uid(monkeypatch, error):
    def no_entry() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", no_entry)
    assert user_name() == f"uid {os.getuid()}"
