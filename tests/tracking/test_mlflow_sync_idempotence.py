"""Nothing is sent twice: repeated pushes, a sync interrupted between two calls, a search continued after its end."""

from __future__ import annotations

import itertools

import pytest

from autorank.errors import AutorankError
from tests.tracking.mlflow_reader import history, text
from tests.trials.trial_factories import START, snapshot, trial


def test_repeated_push_adds_no_duplicates(new_sync, trials, client, server_runs, front_of):
    sync = new_sync()
    for _ in range(2):
        sync.push(snapshot(trials))
    new_sync().push(snapshot(trials), final=True)  # another process
    new_sync().push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert sorted(nested) == [0, 1, 2, 3]
    assert len(history(client, nested[0], "score")) == 2
    assert len(history(client, parent, "hypervolume")) == 3
    assert len(front_of(parent)) == 3


def test_live_tracking_equals_a_later_sync(new_sync, trials, client, server_runs):
    live = new_sync("live")
    for count in range(len(trials) + 1):
        live.push(snapshot(trials[:count]))
    trials[3] = trial(3, (400, 0.9), (400, 0.92), state="running")
    live.push(snapshot(trials))
    trials[3] = trial(3, (400, 0.9), (400, 0.92))
    live.push(snapshot(trials), final=True)
    new_sync("afterwards").push(snapshot(trials), final=True)

    def summary(search_id):
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

    assert summary("live") == summary("afterwards")


def test_a_continued_search_is_running_again(new_sync, trials, server_runs):
    new_sync().push(snapshot(trials[:3]), final=True)
    assert server_runs()[0].info.status == "FINISHED"
    new_sync().push(snapshot(trials))
    assert server_runs()[0].info.status == "RUNNING"


@pytest.mark.parametrize("same", [True, False], ids=["same process", "another"])
def test_a_running_trial_of_a_killed_session_continues(new_sync, trials, client, server_runs, same):
    sync = new_sync()
    sync.push(snapshot(trials), final=True)
    parent, nested = server_runs()
    assert (nested[3].info.status, parent.info.status) == ("KILLED", "FINISHED")
    assert nested[3].info.end_time == (START + 300 + 10) * 1000  # up to its last evaluation
    assert "autorank.state" not in nested[3].data.tags
    artifacts = {artifact.path for artifact in client.list_artifacts(nested[3].info.run_id)}
    assert not artifacts & {"evaluations.json", "ranks.json", "ranks.png"}

    sync = sync if same else new_sync()
    trials[3] = trial(3, (400, 0.9), (300, 0.92), state="running")
    sync.push(snapshot(trials))
    parent, nested = server_runs()
    assert (nested[3].info.status, parent.info.status) == ("RUNNING", "RUNNING")
    trials[3] = trial(3, (400, 0.9), (300, 0.92), (200, 0.93))
    sync.push(snapshot(trials), final=True)
    parent, continued = server_runs()
    assert (continued[3].info.status, continued[3].info.run_id) == ("FINISHED", nested[3].info.run_id)
    assert continued[3].info.end_time == parent.info.end_time == (START + 360) * 1000
    assert history(client, continued[3], "score") == [(10, 0.9), (20, 0.92), (30, 0.93)]
    assert [step for step, _ in history(client, parent, "hypervolume")] == [1, 2, 3, 4]


def test_a_killed_trial_that_is_stopped_later_ends_then(new_sync, server_runs):
    # the search went on while the server was down, so that no push came in between
    new_sync().push(snapshot([trial(0, (100, 0.6), state="running")]), final=True)
    new_sync().push(snapshot([trial(0, (100, 0.6), (90, 0.6), state="running")]), final=True)
    parent, nested = server_runs()
    assert (nested[0].info.status, nested[0].info.end_time) == ("KILLED", (START + 20) * 1000)
    stopped = trial(0, (100, 0.6), (90, 0.6), (80, 0.6), state="pruned", reason="behind its peers")
    new_sync().push(snapshot([stopped]), final=True)
    parent, nested = server_runs()
    assert (nested[0].info.status, nested[0].info.end_time) == ("KILLED", (START + 60) * 1000)
    assert parent.info.end_time == (START + 60) * 1000 and nested[0].data.tags["autorank.state"] == "pruned"


CALLS = ("create_run", "log_batch", "log_dict", "log_text", "set_tag", "set_terminated", "log_inputs")


def failing_at(patch, fatal, arrives):
    """Make the client's writing call number `fatal` fail, after it took effect on the server (`arrives`) or before."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    calls = itertools.count()

    def broken(call):
        def wrapped(*arguments, **keywords):
            failing = next(calls) == fatal
            if not failing or arrives:
                result = call(*arguments, **keywords)
            if failing:
                raise MlflowException("gone")
            return result

        return wrapped

    for name in CALLS:
        patch.setattr(MlflowClient, name, broken(getattr(MlflowClient, name)))
    return calls


def test_interrupted_between_two_calls_the_sync_continues(new_sync, client, server_runs, monkeypatch):
    from mlflow.tracking import MlflowClient

    # drawing figures would take most of the time
    monkeypatch.setattr(MlflowClient, "log_figure", lambda self, run, _, name: self.log_text(run, "drawn", name))
    trials = [trial(0, (100, 0.6), (100, 0.7), state="pruned", reason="behind its peers")]
    new_sync("whole").push(snapshot(trials), final=True)

    def summary(search_id):
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
        new_sync("counted").push(snapshot(trials), final=True)
        count = next(calls)
    assert count > 20
    for fatal in range(count):
        with monkeypatch.context() as patch:
            failing_at(patch, fatal, arrives=fatal % 2 == 0)
            sync = new_sync(f"cut at {fatal}")
            with pytest.raises(AutorankError, match="gone"):
                sync.push(snapshot(trials), final=True)
        (sync if fatal % 2 else new_sync(f"cut at {fatal}")).push(snapshot(trials), final=True)
        assert summary(f"cut at {fatal}") == summary("whole"), f"cut off at call {fatal}"


def test_a_trial_is_done_only_with_its_state(new_sync, trials, client, server_runs, monkeypatch):
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
            new_sync().push(snapshot(trials))
    _, nested = server_runs()
    assert nested[0].info.status == "FINISHED" and "autorank.state" not in nested[0].data.tags
    client.log_text(nested[0].info.run_id, "spoiled", "ranks.json")
    new_sync().push(snapshot(trials))
    _, nested = server_runs()
    assert nested[0].data.tags["autorank.state"] == "complete" and len(nested) == 4
    assert text(client, nested[0], "ranks.json") != "spoiled"
    client.log_text(nested[0].info.run_id, "left alone", "ranks.json")
    new_sync().push(snapshot(trials))
    assert text(client, nested[0], "ranks.json") == "left alone"
    assert history(client, nested[0], "score") == [(10, 0.6), (20, 0.7)]
