"""MLflow as a projection: exact counts, pushed twice, caught up later, and a server that is not there."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.modeling import rank_map
from autorank.results.mlflow_run import Run, as_text, metrics_at
from autorank.results.page import report
from autorank.results.tracker import Tracker
from autorank.results.tracking import ENVIRONMENT, Projection, default_uri, quietly
from autorank.tasks.demo import DEMO
from tests.results.made_trials import START, base_ranks, evaluation, search, snapshot, trial

REFERENCE = (1000.0, 0.5)
ABOUT = {
    "versions": {"autorank": "0.1.0", "torch": "2.13.0"},
    "revision": "f" * 40,
    "data": {"digest": "0123456789abcdef", "examples": {"train": 2000, "validation": 400}},
}


@pytest.fixture
def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(store)


@pytest.fixture
def own(spec):
    """A spec with a name of its own, so that the store of the session can be shared."""
    return spec.model_copy(update={"name": f"search-{uuid.uuid4().hex[:6]}"})


@pytest.fixture
def project(store, own):
    """Another process's view of the same search: a projection that knows nothing yet."""
    return lambda search_id="s1", uri=store: Projection(uri, own, search_id, REFERENCE, about=ABOUT)


@pytest.fixture
def trials():
    return [
        trial(0, (100, 0.6), (100, 0.7)),
        trial(1, (50, 0.65), state="pruned", reason="behind its peers"),
        trial(2, (200, math.nan), state="failed", reason="diverged at step 10"),
        trial(3, (400, 0.9), state="running"),
    ]


@pytest.fixture
def server_runs(client, own):
    """The parent and the nested runs by trial number, after checking that there are no others."""

    def read(search_id="s1"):
        experiment = client.get_experiment_by_name(own.name).experiment_id
        runs = [r for r in client.search_runs([experiment]) if r.data.tags["autorank.search"] == search_id]
        nested = {int(r.data.tags["autorank.trial"]): r for r in runs if "autorank.trial" in r.data.tags}
        (parent,) = (r for r in runs if "autorank.trial" not in r.data.tags)
        assert len(runs) == 1 + len(nested)
        return parent, nested

    return read


@pytest.fixture
def front_of(client, store, monkeypatch):
    """The front as MLflow's own reader of tables returns it; it knows only the global store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return lambda run: client.load_table(run.info.experiment_id, "front_table.json", [run.info.run_id])


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def text(client, run, name):
    return Path(client.download_artifacts(run.info.run_id, name)).read_text()


def test_a_search_as_runs(project, trials, client, server_runs):
    project().push(snapshot(trials))
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
    known = {
        "search": parent.data.tags["search"], "method": "lora-drop", "task": "demo", "model": "shipped with autorank",
        "dataset_digest": "0123456789abcdef", "mlflow.source.git.commit": "f" * 40, "version.autorank": "0.1.0",
        "version.torch": "2.13.0",
    }  # fmt: skip
    assert all(known.items() <= run.data.tags.items() for run in (parent, *nested.values()))
    assert json.loads(text(client, nested[0], "evaluations.json"))[1]["ranks"]["layer.0.query"] == 4


def test_a_finished_trial_has_its_last_ranks(project, trials, client, server_runs):
    last = {"layer.0.query": 7, "layer.1.query": 1}
    trials[0] = trial(0, (100, 0.6), evaluation(20, 100, 0.7, ranks=last))
    trials.append(trial(4, state="failed", reason="out of memory"))
    project().push(snapshot(trials))
    _, nested = server_runs()
    ranks = rank_map.read(Path(client.download_artifacts(nested[0].info.run_id, "ranks.json")))
    assert list(ranks.items()) == [("layer.0.query", 7), ("layer.1.query", 1)]
    png = Path(client.download_artifacts(nested[0].info.run_id, "ranks.png"))
    assert png.read_bytes().startswith(b"\x89PNG")
    for number in (3, 4):  # at work; without an evaluation
        there = {artifact.path for artifact in client.list_artifacts(nested[number].info.run_id)}
        assert not there & {"ranks.json", "ranks.png"}


def test_the_parent_tells_the_search(project, trials, client, server_runs, own, front_of):
    project().push(snapshot(trials), final=True)
    parent, _ = server_runs()
    assert parent.info.status == "FINISHED" and parent.data.params["sampler"] == "tpe"
    # trials 0, 1, 2 have ended: alone 900 x 0.2; with (50, 0.65) another 50 x 0.15 to its left; nothing new
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
    assert text(client, parent, "report.html") == report(snapshot(trials), own, REFERENCE)
    table = front_of(parent)
    assert list(table["score"]) == pytest.approx([0.65, 0.7, 0.9])
    assert list(table["config.rank"]) == [8, 8, 8]


def test_the_data_are_seen_as_mlflow_s_own(project, trials, client, server_runs):
    for _ in range(2):
        project().push(snapshot(trials), final=True)
    parent, _ = server_runs()
    (there,) = client.get_run(parent.info.run_id).inputs.dataset_inputs
    assert (there.dataset.name, there.dataset.digest) == ("demo", "0123456789abcdef")
    assert json.loads(there.dataset.profile) == {"num_rows": 2000, "train": 2000, "validation": 400}
    assert {each["name"] for each in json.loads(there.dataset.schema)["mlflow_colspec"]} == {*DEMO.text, DEMO.label}
    assert [(tag.key, tag.value) for tag in there.tags] == [("mlflow.data.context", "training")]


def test_the_latest_values_are_those_of_the_best_evaluation(project, client, server_runs):
    falling = trial(0, (100, 0.7), (90, 0.8), (80, 0.6))
    project().push(snapshot([falling]), final=True)
    parent, nested = server_runs()
    assert nested[0].data.metrics["score"] == 0.6
    for run in (parent, nested[0]):
        assert (run.data.metrics["best_score"], run.data.metrics["best_adapter_params"]) == (0.8, 90)
    assert history(client, nested[0], "best_adapter_params") == [(10, 100), (20, 90), (30, 90)]


@pytest.mark.parametrize("count", [998, 999, 1000, 2500])
def test_batches_are_as_large_as_mlflow_takes(client, store, count):
    experiment = client.create_experiment(uuid.uuid4().hex)
    run = Run(client.create_run(experiment).info.run_id)
    run.push_metrics(client, [m for step in range(count) for m in metrics_at({"score": 0.1}, START, step)], count)
    there = client.get_run(run.id)
    assert len(client.get_metric_history(run.id, "score")) == count and Run.found(there).sent == count


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e-5, "0.00001"), (0.001, "0.001"), (16.0, "16.0"), (8, "8"), (True, "True"), (math.inf, "inf"),
     ((3e-4, 0.5), "[0.0003, 0.5]"), ("query,value", "query,value")],
)  # fmt: skip
def test_numbers_are_plain(value, written):
    assert as_text(value) == written


def test_what_is_not_set_is_no_param(project, client, server_runs):
    project().push(snapshot([trial(0, (100, 0.6), config={"rank": 8, "interval": None})]))
    _, nested = server_runs()
    assert "interval" not in nested[0].data.params and nested[0].data.params["rank"] == "8"


def test_the_report_is_made_at_the_end_alone(project, trials, monkeypatch):
    made = []
    monkeypatch.setattr("autorank.results.tracking.report", lambda *_: made.append("report") or "page")
    projection = project()
    projection.push(snapshot(trials[:1]))
    projection.push(snapshot(trials))
    assert not made
    projection.push(snapshot(trials), final=True)
    assert made == ["report"]


def test_pushed_again_nothing_doubles(project, trials, client, server_runs, front_of):
    projection = project()
    for _ in range(2):
        projection.push(snapshot(trials))
    project().push(snapshot(trials), final=True)  # another process
    project().push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert sorted(nested) == [0, 1, 2, 3]
    assert len(history(client, nested[0], "score")) == 2
    assert len(history(client, parent, "hypervolume")) == 3
    assert len(front_of(parent)) == 3


def test_live_and_afterwards_come_to_the_same(project, trials, client, server_runs):
    live = project("live")
    for count in range(len(trials) + 1):
        live.push(snapshot(trials[:count]))
    trials[3] = trial(3, (400, 0.9), (400, 0.92), state="running")
    live.push(snapshot(trials))
    trials[3] = trial(3, (400, 0.9), (400, 0.92))
    live.push(snapshot(trials), final=True)
    project("afterwards").push(snapshot(trials), final=True)

    def shape(search_id):
        parent, nested = server_runs(search_id)
        return [
            (
                run.info.status,
                run.info.end_time,
                run.data.params,
                run.data.metrics,
                history(client, run, "score"),
            )
            for run in (parent, *(nested[number] for number in sorted(nested)))
        ]

    assert shape("live") == shape("afterwards")


def test_a_search_that_goes_on_is_running_again(project, trials, server_runs):
    project().push(snapshot(trials[:3]), final=True)
    assert server_runs()[0].info.status == "FINISHED"
    project().push(snapshot(trials))
    assert server_runs()[0].info.status == "RUNNING"


@pytest.mark.parametrize("same", [True, False], ids=["same process", "another"])
def test_a_trial_left_running_is_killed_and_goes_on(project, trials, client, server_runs, same):
    projection = project()
    projection.push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert (nested[3].info.status, parent.info.status) == ("KILLED", "FINISHED")
    assert nested[3].info.end_time == (START + 300 + 10) * 1000  # up to its last evaluation
    assert "autorank.state" not in nested[3].data.tags
    there = {artifact.path for artifact in client.list_artifacts(nested[3].info.run_id)}
    assert not there & {"evaluations.json", "ranks.json", "ranks.png"}

    projection = projection if same else project()
    trials[3] = trial(3, (400, 0.9), (300, 0.92), state="running")
    projection.push(snapshot(trials))
    parent, nested = server_runs()
    assert (nested[3].info.status, parent.info.status) == ("RUNNING", "RUNNING")
    trials[3] = trial(3, (400, 0.9), (300, 0.92), (200, 0.93))
    projection.push(snapshot(trials), final=True)
    parent, again = server_runs()
    assert (again[3].info.status, again[3].info.run_id) == ("FINISHED", nested[3].info.run_id)
    assert again[3].info.end_time == parent.info.end_time == (START + 360) * 1000
    assert history(client, again[3], "score") == [(10, 0.9), (20, 0.92), (30, 0.93)]
    assert [step for step, _ in history(client, parent, "hypervolume")] == [1, 2, 3, 4]


def test_a_killed_trial_that_is_stopped_later_ends_then(project, server_runs):
    # the search went on without its server, so that nothing came in between
    project().push(snapshot([trial(0, (100, 0.6), state="running")]), final=True)
    project().push(snapshot([trial(0, (100, 0.6), (90, 0.6), state="running")]), final=True)
    parent, nested = server_runs()
    assert (nested[0].info.status, nested[0].info.end_time) == ("KILLED", (START + 20) * 1000)
    stopped = trial(0, (100, 0.6), (90, 0.6), (80, 0.6), state="pruned", reason="behind its peers")
    project().push(snapshot([stopped]), final=True)
    parent, nested = server_runs()
    assert (nested[0].info.status, nested[0].info.end_time) == ("KILLED", (START + 60) * 1000)
    assert parent.info.end_time == (START + 60) * 1000 and nested[0].data.tags["autorank.state"] == "pruned"


CALLS = ("create_run", "log_batch", "log_dict", "log_text", "set_tag", "set_terminated", "log_inputs")


def failing_at(patch, fatal, arrives):
    """The client's writing calls, of which number `fatal` fails: it worked there all the same, or it did not."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    calls = itertools.count()

    def broken(call):
        def wrapped(*values, **named):
            failing = next(calls) == fatal
            if not failing or arrives:
                result = call(*values, **named)
            if failing:
                raise MlflowException("gone")
            return result

        return wrapped

    for name in CALLS:
        patch.setattr(MlflowClient, name, broken(getattr(MlflowClient, name)))
    return calls


def test_cut_off_between_two_calls_it_goes_on(project, client, server_runs, monkeypatch):
    from mlflow.tracking import MlflowClient

    # pictures would take most of the time
    monkeypatch.setattr(MlflowClient, "log_figure", lambda self, run, _, name: self.log_text(run, "drawn", name))
    trials = [trial(0, (100, 0.6), (100, 0.7), state="pruned", reason="behind its peers")]
    project("whole").push(snapshot(trials), final=True)

    def shape(search_id):
        parent, nested = server_runs(search_id)
        runs = [parent, *(nested[number] for number in sorted(nested))]
        names = ("score", "train_loss", "hypervolume", "front_size")
        return [
            (
                run.info.status, run.info.end_time, run.data.params, run.data.metrics,
                {key: value for key, value in run.data.tags.items() if key in ("autorank.state", "autorank.reason")},
                [history(client, run, name) for name in names],
                sorted(artifact.path for artifact in client.list_artifacts(run.info.run_id)),
            )
            for run in runs
        ]  # fmt: skip

    with monkeypatch.context() as patch:
        calls = failing_at(patch, -1, arrives=True)
        project("counted").push(snapshot(trials), final=True)
        count = next(calls)
    assert count > 20
    for fatal in range(count):
        with monkeypatch.context() as patch:
            failing_at(patch, fatal, arrives=fatal % 2 == 0)
            projection = project(f"cut at {fatal}")
            with pytest.raises(AutorankError, match="gone"):
                projection.push(snapshot(trials), final=True)
        (projection if fatal % 2 else project(f"cut at {fatal}")).push(snapshot(trials), final=True)
        assert shape(f"cut at {fatal}") == shape("whole"), f"cut off at call {fatal}"


def test_a_trial_is_done_only_with_its_state(project, trials, client, server_runs, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    tag = MlflowClient.set_tag

    def all_but_the_state(client, run, key, value):
        if key == "autorank.state":
            raise MlflowException("gone")
        tag(client, run, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_tag", all_but_the_state)
        with pytest.raises(AutorankError, match="gone"):
            project().push(snapshot(trials))
    _, nested = server_runs()
    assert nested[0].info.status == "FINISHED" and "autorank.state" not in nested[0].data.tags
    client.log_text(nested[0].info.run_id, "spoiled", "ranks.json")
    project().push(snapshot(trials))
    _, nested = server_runs()
    assert nested[0].data.tags["autorank.state"] == "complete" and len(nested) == 4
    assert text(client, nested[0], "ranks.json") != "spoiled"
    client.log_text(nested[0].info.run_id, "left alone", "ranks.json")
    project().push(snapshot(trials))
    assert text(client, nested[0], "ranks.json") == "left alone"
    assert history(client, nested[0], "score") == [(10, 0.6), (20, 0.7)]


def test_several_methods_and_the_control(store, own, client, server_runs, front_of):
    spec = search("lora-drop", "adalora", control=True, name=own.name)
    trials = [
        trial(0, (100, 0.6)),
        trial(1, (50, 0.9), method="adalora", config={"target_rank": 4}),
        trial(2, (40, 0.95), method="lora", control=True),
    ]
    Projection(store, spec, "s1", REFERENCE).push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert parent.data.params["method"] == "lora-drop,adalora"
    assert [nested[number].data.params["method"] for number in range(3)] == ["lora-drop", "adalora", "lora"]
    volumes = [0.9 * 0.1 / 0.5, 0.95 * 0.4 / 0.5, 0.95 * 0.4 / 0.5]  # the control's better point adds nothing
    assert [value for _, value in history(client, parent, "hypervolume")] == pytest.approx(volumes)
    assert history(client, parent, "best_score") == [(1, 0.6), (2, 0.9), (3, 0.9)]
    table = front_of(parent)
    assert list(table["method"]) == ["adalora"] and list(table["gain"]) == pytest.approx([-0.05])


def test_long_settings_become_an_artifact(project, client, server_runs):
    ranks = base_ranks()
    trials = [trial(0, (100, 0.6), config={"rank": 8, "rank_pattern": ranks})]
    project().push(snapshot(trials))
    _, nested = server_runs()
    assert "rank_pattern" not in nested[0].data.params and nested[0].data.params["rank"] == "8"
    assert json.loads(text(client, nested[0], "settings.json"))["rank_pattern"] == ranks


def test_artifacts_lie_beside_the_store(project, store, trials, tmp_path, monkeypatch, server_runs, own):
    monkeypatch.chdir(tmp_path)
    project().push(snapshot(trials), final=True)
    home = Path(store.removeprefix("sqlite:///")).parent
    assert server_runs()[0].info.artifact_uri.startswith(str(home / "mlartifacts" / own.name))
    assert list(tmp_path.iterdir()) == []


def test_the_store_s_place(tmp_path, monkeypatch, project):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert project(uri="sqlite:///here.db").uri == f"sqlite:///{tmp_path}/here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_uri(Path("runs")) == "http://tracking:5000"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_what_mlflow_does_not_take_is_refused_at_once(project, uri):
    with pytest.raises(AutorankError, match="is no place where MLflow keeps runs"):
        project(uri=uri)


def test_a_deleted_experiment_is_named(project, trials, client, own):
    project().push(snapshot(trials))
    client.delete_experiment(client.get_experiment_by_name(own.name).experiment_id)
    with pytest.raises(AutorankError, match="mlflow experiments restore"):
        project().push(snapshot(trials))


@pytest.fixture
def dead():
    """An address where nobody listens: bound, so that nobody else takes it, and never listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://user:secret@127.0.0.1:{bound.getsockname()[1]}"


def test_a_dead_server_is_one_message_without_the_password(project, dead, trials, own):
    with pytest.raises(AutorankError, match=f"autorank sync {own.name}") as error:
        project(uri=dead).push(snapshot(trials))
    assert "Connection refused" in str(error.value) and "secret" not in str(error.value)


def test_tracker_warns_once_of_a_dead_server_and_closes(project, dead, trials, monkeypatch):
    monkeypatch.setattr("autorank.results.tracker.PAUSE", 0.01)
    warnings = []
    tracker = Tracker(project(uri=dead), warnings.append)
    tracker.update(snapshot(trials))
    assert tracker.close(timeout=60) is False
    assert len(warnings) == 1 and "cannot be reached" in warnings[0]


def test_tracker_that_hangs_does_not_hold_up_closing(trials):
    class Hanging:
        def push(self, *_):
            threading.Event().wait()

    tracker = Tracker(Hanging())
    tracker.update(snapshot(trials))
    assert tracker.close(timeout=0.05) is False


def test_tracker_sends_the_last_snapshot_and_ends_the_run(project, trials, client, server_runs):
    tracker = Tracker(project())
    for count in range(1, 5):
        tracker.update(snapshot(trials[:count]))
    assert tracker.close(timeout=120) is True
    parent, nested = server_runs()
    assert parent.info.status == "FINISHED" and sorted(nested) == [0, 1, 2, 3]
    assert len(history(client, nested[0], "score")) == 2


def test_tracker_catches_up_when_the_server_comes_back(trials, monkeypatch):
    monkeypatch.setattr("autorank.results.tracker.PAUSE", 0.01)
    pushed = []

    class Flaky:
        def push(self, snapshot, final):
            pushed.append((len(snapshot.trials), final))
            if len(pushed) < 3:
                raise AutorankError("away")

    warnings = []
    tracker = Tracker(Flaky(), warnings.append)
    tracker.update(snapshot(trials))
    while len(pushed) < 3:
        time.sleep(0.001)
    assert tracker.close(timeout=10) is True
    assert pushed[:3] == [(4, False)] * 3 and pushed[-1] == (4, True) and warnings == ["away"]


def test_tracker_ignores_snapshots_that_say_nothing_new(trials, monkeypatch):
    monkeypatch.setattr("autorank.results.tracker.PAUSE", 0.001)
    pushed = []

    class Counting:
        def push(self, snapshot, final):
            pushed.append(final)

    tracker = Tracker(Counting())
    tracker.update(snapshot(trials))
    while not pushed:
        time.sleep(0.001)
    for _ in range(20):
        tracker.update(snapshot(trials))
        time.sleep(0.002)
    assert tracker.close(timeout=10) is True and pushed == [False, True]


def test_tracker_sends_what_confirmed_the_front(trials):
    pushed = []

    class Keeping:
        def push(self, snapshot, final):
            pushed.append(dict(snapshot.confirmed))

    tracker = Tracker(Keeping())
    tracker.update(snapshot(trials))
    tracker.update(replace(snapshot(trials), confirmed={(0, 20, 1): {"score": 0.7}}))
    assert tracker.close(timeout=10) is True and pushed[-1] == {(0, 20, 1): {"score": 0.7}}


def test_mlflow_is_left_as_it_was(monkeypatch):
    """After a push, and after a search, whose variables are set for its whole time: other threads read them too."""
    (kept, given), *others = ENVIRONMENT.items()
    monkeypatch.setenv(kept, "7")
    for name, _ in others:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging.getLogger("mlflow"), "level", logging.DEBUG)
    before = dict(os.environ)
    with quietly(logging.ERROR), quietly():
        assert os.environ[kept] == "7" != given and all(os.environ[name] == value for name, value in others)
    assert dict(os.environ) == before and logging.getLogger("mlflow").level == logging.DEBUG

    class Sending:
        def push(self, *_):
            assert all(name in os.environ for name in ENVIRONMENT)

    tracker = Tracker(Sending())
    assert set(ENVIRONMENT) <= set(os.environ) and tracker.close()
    assert dict(os.environ) == before
