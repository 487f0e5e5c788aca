"""Searches on a real Ray, over runs that train nothing."""

from __future__ import annotations

import signal

import pytest

from autorank.errors import AutorankError
from autorank.searching.budget import Budget
from autorank.searching.create import open_journal
from autorank.searching.ray.actors.trainable import bind
from autorank.searching.ray.tune_run import SCRATCH
from autorank.searching.search import run_missing_trials
from autorank.spec import HalvingSpec
from autorank.trials.front import front
from autorank.trials.retention import adapter_path, checkpoint_path
from tests.searching.fake_runs import STEPS, FakeTrial, bounds, search_spec

pytestmark = pytest.mark.long


@pytest.fixture
def run_search(ray, tmp_path):
    """Run or continue one search, with `plans` by trial number, a budget and a progress callback."""

    def run(trials, plans, progress=None, halving=None, **budget):
        with open_journal(search_spec(halving=halving), tmp_path / "standin", lambda: (64.0, 0.0)) as journal:
            trainable = bind(FakeTrial, folder=journal.folder, plans=plans)
            budget = Budget(trials, **{"concurrency": 1, **budget})
            return run_missing_trials(journal, trainable, bounds, budget, progress=progress)

    return run


def files(folder):
    return {path for path in (folder / "trials").rglob("*") if path.is_file()}


def test_trials_fail_alone_actors_stay_warm_and_only_the_fronts_adapters_stay(run_search, tmp_path, capfd):
    outcome = run_search(6, {1: "raises", 3: "nan"})
    records = outcome.snapshot.trials
    assert outcome.ending == "trials"
    assert [trial.state for trial in records] == ["complete", "failed", "complete", "failed", "complete", "complete"]
    assert records[1].reason == "RuntimeError: the run broke"
    assert [len(trial.evaluations) for trial in records] == [3, 1, 3, 3, 3, 3]
    assert len({e.metrics["pid"] for trial in records for e in trial.evaluations}) == 1
    expected = {adapter_path(tmp_path / "standin", point.trial, point.step) for point in front(records)}
    assert files(tmp_path / "standin") == expected
    assert not (tmp_path / "standin" / SCRATCH).exists()
    assert "".join(capfd.readouterr()) == ""


def test_after_ctrl_c_the_journal_is_complete_and_the_trial_continues(run_search, tmp_path):
    pressed = []

    def ctrl_c(snapshot):
        if snapshot.trials and snapshot.trials[-1].evaluations and not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    outcome = run_search(2, {None: "stuck"}, ctrl_c)
    assert outcome.ending == "interrupted"
    assert signal.getsignal(signal.SIGINT) == handler
    (interrupted,) = outcome.snapshot.trials
    assert (interrupted.state, interrupted.step) == ("running", 1) and checkpoint_path(tmp_path / "standin", 0).exists()
    outcome = run_search(2, {})
    assert outcome.ending == "trials"
    first, second = outcome.snapshot.trials
    assert first.settings == interrupted.settings and first.evaluations[0] == interrupted.evaluations[0]  # its pid too
    assert [(trial.state, trial.step) for trial in (first, second)] == [("complete", STEPS)] * 2
    assert not checkpoint_path(tmp_path / "standin", 0).exists()


def test_a_trial_whose_process_died_resumes_from_its_last_evaluation(run_search):
    records = run_search(3, {0: "dies once", 1: "dies"}, retries=1).snapshot.trials
    assert [(trial.state, trial.step, trial.retries) for trial in records] == [
        ("complete", STEPS, 1),
        ("failed", 1, 1),
        ("complete", STEPS, 0),
    ]
    assert "its process died" in records[1].reason
    assert len({e.metrics["pid"] for e in records[0].evaluations}) == 2


def test_a_trial_out_of_memory_resumes_alone_with_half_the_micro_batch(run_search):
    records = run_search(4, {1: "memory"}, concurrency=2).snapshot.trials
    assert [(trial.state, trial.step, trial.reduced_micro_batch) for trial in records] == [
        ("complete", STEPS, number == 1) for number in range(4)
    ]


def test_beaten_trials_are_stopped_and_samplers_learn_their_expected_values(run_search):
    records = run_search(6, {3: "weak", 4: "weak"}, halving=HalvingSpec()).snapshot.trials
    assert [(trial.state, trial.reason) for trial in records[3:5]] == [("pruned", "beaten")] * 2
    assert all(trial.state == "complete" for trial in (*records[:3], records[5]))
    for trial in records[3:5]:  # the complete ones gained 0.002 from the first evaluation to the last
        area = (0.1 + 0.002) * (1 - trial.settings["rank"] / 64)
        assert trial.step == 1 and trial.sampler_values == (pytest.approx(area, abs=2e-3),)


def test_the_time_budget_prunes_running_trials(run_search):
    outcome = run_search(50, {None: "slow"}, seconds=4.0)
    assert outcome.ending == "time budget"
    assert outcome.snapshot.trials[-1].state in ("pruned", "complete")  # it may have been at its last evaluation
    assert all(trial.state != "running" for trial in outcome.snapshot.trials)


def test_a_full_disk_ends_the_search_with_a_remedy(run_search):
    with pytest.raises(AutorankError, match=r"No space left on the disk of .* Free some"):
        run_search(4, {0: "full"})


def test_more_gpus_than_available_are_refused(run_search):
    with pytest.raises(AutorankError, match="--gpus-per-trial 99 needs 99 GPUs"):
        run_search(1, {}, gpus_per_trial=99)


@pytest.mark.parametrize(
    ("budget", "before", "ended", "expected"),
    [
        (Budget(), {}, 0, (20, 0)),
        (Budget(), {"trials": 8, "confirm": 3}, 8, (8, 3)),  # as in the last command
        (Budget(12, confirm=0), {"trials": 8, "confirm": 3}, 8, (12, 0)),
        (Budget(5, more=True), {"trials": 8}, 8, (13, 0)),
        (Budget(5, more=True), {"trials": 13}, 10, (13, 0)),  # interrupted: the same command adds no trials
        (Budget(5, more=True), {"trials": 8}, 30, (35, 0)),  # fewer were requested than exist
    ],
)
def test_totals_of_trials_and_confirmations(budget, before, ended, expected):
    assert budget.totals(before, ended) == expected


def test_a_command_repeated_after_an_interrupted_confirmation_adds_no_trials():
    assert Budget(5, more=True, confirm=2).totals({"trials": 8, "confirm": 2}, 8, unconfirmed=True) == (8, 2)


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [
        (None, None, False),
        ("10.0.0.1:6379", None, True),
        (None, "10.0.0.1:6379", True),
        ("local", "10.0.0.1:6379", False),
    ],
)
def test_trials_run_on_the_cluster_of_the_address_or_of_ray_address(address, variable, expected, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert Budget(address=address).on_cluster is expected


def test_more_trials_are_added_to_those_that_exist(run_search):
    assert len(run_search(2, {}).snapshot.trials) == 2
    assert len(run_search(3, {}, more=True).snapshot.trials) == 5
    assert len(run_search(None, {}).snapshot.trials) == 5
