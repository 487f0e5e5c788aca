"""Searches on a real Ray, over runs that train nothing."""

from __future__ import annotations

import signal

import pytest

from autorank.errors import AutorankError
from autorank.results.front import front
from autorank.search.files import adapter_path
from autorank.search.opening import make_spec, open_journal
from autorank.search.run import SCRATCH, Budget, conduct
from autorank.search.space import load
from autorank.search.trainable import bind
from autorank.spec import TaskSpec, TrainSpec
from tests.search.standin import STEPS, StandInTrial, search_spec


@pytest.fixture
def conducted(ray, tmp_path):
    """Runs or goes on with one search: `plans` by trial number, budget, progress callback."""

    def run(trials, plans, progress=None, **budget):
        with open_journal(search_spec(), tmp_path / "standin", lambda: (64.0, 0.0)) as journal:
            trainable = bind(StandInTrial, spec=journal.spec.train, folder=journal.folder, plans=plans)
            return conduct(journal, trainable, Budget(trials, concurrency=1, **budget), progress=progress)

    return run


def adapters(folder):
    return {path for path in (folder / "trials").rglob("*") if path.is_file()}


def test_trials_fail_alone_actors_stay_warm_and_only_the_fronts_adapters_stay(conducted, tmp_path, capfd):
    outcome = conducted(6, {1: "raises", 3: "nan"})
    records = outcome.trials
    assert outcome.ending == "trials"
    assert [trial.state for trial in records] == ["complete", "failed", "complete", "failed", "complete", "complete"]
    assert records[1].reason == "RuntimeError: the run broke"
    assert [len(trial.evaluations) for trial in records] == [3, 1, 3, 3, 3, 3]
    assert len({e.metrics["pid"] for trial in records for e in trial.evaluations}) == 1
    expected = {adapter_path(tmp_path / "standin", point.trial, point.step) for point in front(records)}
    assert adapters(tmp_path / "standin") == expected
    assert not (tmp_path / "standin" / SCRATCH).exists()
    assert "".join(capfd.readouterr()) == ""


def test_ctrl_c_leaves_a_whole_journal_and_the_next_start_goes_on(conducted, tmp_path):
    def ctrl_c(records):
        if records and records[-1].evaluations and records[-1].state == "running":
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    outcome = conducted(2, {None: "stuck"}, ctrl_c)
    assert outcome.ending == "interrupted"
    assert signal.getsignal(signal.SIGINT) == handler
    assert [(trial.state, trial.reason) for trial in outcome.trials] == [("failed", "interrupted")]
    outcome = conducted(3, {2: "dies"})  # 1 and 2 were waiting already; 3 is the interrupted one again
    assert outcome.ending == "trials"
    states = [(trial.state, len(trial.evaluations)) for trial in outcome.trials]
    assert states == [("failed", 1), ("complete", STEPS), ("failed", 0), ("complete", STEPS)]
    assert outcome.trials[3].config == outcome.trials[0].config
    assert "its process died" in outcome.trials[2].reason


def test_the_time_budget_prunes_what_runs(conducted):
    outcome = conducted(50, {None: "slow"}, seconds=4.0)
    assert outcome.ending == "time budget"
    assert outcome.trials[-1].state in ("pruned", "complete")  # it may have been at its last evaluation
    assert all(trial.state != "running" for trial in outcome.trials)


def test_a_full_disk_ends_the_search_with_a_remedy(conducted):
    with pytest.raises(AutorankError, match=r"No space left on the disk of .* Free some"):
        conducted(4, {0: "full"})


def test_more_is_asked_for_than_there_is(ray, tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: (64.0, 0.0)) as journal:
        trainable = bind(StandInTrial, spec=journal.spec.train, folder=journal.folder)
        with pytest.raises(AutorankError, match="--gpus-per-trial 99 is more"):
            conduct(journal, trainable, Budget(1, gpus_per_trial=99))


def test_a_spec_from_a_base_run_and_a_space():
    train = TrainSpec(task=TaskSpec(name="demo"), method="lora")
    spec = make_spec(train, load("lora", overrides=["rank=4"]), seed=3)
    assert (spec.name, spec.seed, spec.train.settings["rank"]) == ("lora-demo", 3, 4)
    assert set(spec.space) == {"learning_rate", "dropout"}
    with pytest.raises(AutorankError, match="sampler"):
        make_spec(train, load("lora"), sampler="annealing")
