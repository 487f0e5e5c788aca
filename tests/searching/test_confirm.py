"""Confirmation: points of a front are trained again with other seeds."""

from __future__ import annotations

import hashlib
import time
from itertools import islice

import numpy as np
import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.confirm import ConfirmSearcher, pending, seeds_of
from autorank.searching.create import open_journal
from autorank.searching.retry_policy import Death
from autorank.spec import MethodSpec, TrainingSpec
from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.statistics import predictions
from tests.searching.fake_runs import SPACE, search_spec
from tests.searching.searcher_driver import goes_on
from tests.trials.trial_factories import evaluation, sliced

BASELINE = MethodSpec(method="lora", space=SPACE)


def seed(trial: int, number: int = 0, step: int = 10) -> int:
    """The seed of a repetition: the first four bytes of a hash."""
    return int.from_bytes(hashlib.sha256(f"{trial}:{step}:{number}".encode()).digest()[:4])


@pytest.fixture
def journal(tmp_path):
    """A journal of three trials: a dominated one, one whose first evaluation is the front, and one of the baseline."""
    spec = search_spec("s", "lora-drop", baseline=BASELINE)
    with open_journal(spec, tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        trials = [("lora-drop", [0.5]), ("lora-drop", [0.9, 0.8]), ("lora", [0.7])]
        for number, (method, scores) in enumerate(trials):
            journal.begin(method, {"rank": 1, "learning_rate": 1e-3}, {}, baseline=method == "lora")
            for step, score in enumerate(scores, start=1):
                journal.record(number, evaluation(10 * step, 100, score))
            journal.finish(number, "complete")
        yield journal


def test_every_point_of_both_fronts_is_trained_with_each_seed(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    suggestions = [searcher.suggest(str(i)) for i in range(4)]
    assert searcher.suggest("4") is None  # a running one may have to be retried
    assert [(suggestion["number"], suggestion["until"]) for suggestion in suggestions] == [
        (f"1-10-{seed(1)}", 10), (f"2-10-{seed(2)}", 10), (f"1-10-{seed(1, 1)}", 10), (f"2-10-{seed(2, 1)}", 10),
    ]  # fmt: skip
    train = suggestions[3]["train"]
    assert (train.method, train.training.seed, train.task.final) == ("lora", seed(2, 1), True)
    for i in range(4):
        searcher.on_trial_complete(str(i), {"evaluation": evaluation(10, 100, 0.6 + i / 10), "finished": True})
    assert searcher.suggest("5") == Searcher.FINISHED
    confirmed = journal.snapshot().confirmed
    assert {key: value["score"] for key, value in confirmed.items()} == pytest.approx(
        {
            (1, 10, 100, seed(1)): 0.6,
            (2, 10, 100, seed(2)): 0.7,
            (1, 10, 100, seed(1, 1)): 0.8,
            (2, 10, 100, seed(2, 1)): 0.9,
        }
    )
    assert pending(journal, 2) == [] and pending(journal, 3) == []  # each front has one point, which is not open


def test_slices_of_one_evaluation_share_a_training(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.record(number, sliced(10, 90, 0.95, (20, 0.5), (40, 0.6)))
    journal.finish(number, "complete")
    assert len(pending(journal, 2)) == 2 * 4  # three points, and the baseline's
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    suggestions = [searcher.suggest(str(i)) for i in range(4)]
    assert [(suggestion["number"], suggestion["until"], suggestion["sizes"]) for suggestion in suggestions[:2]] == [
        (f"3-10-{seed(3)}", 10, [20, 40]), (f"2-10-{seed(2)}", 10, []),
    ]  # fmt: skip
    models = [Outcomes("mean", np.full((3, 1), score), np.zeros((3, 0), int), (3,)) for score in (0.9, 0.4, 0.55)]
    curve = sliced(10, 88, 0.9, (20, 0.4), (38, 0.55), seconds=7.0, peak_memory=5, predictions=pack(models))
    searcher.on_trial_complete("0", {"evaluation": curve, "finished": True})
    searcher.on_trial_complete("2", {"failed": "diverged"})
    stored = journal.snapshot().confirmed
    assert {key: (value["score"], value["adapter_params"]) for key, value in stored.items() if key[3] == seed(3)} == {
        (3, 10, 20, seed(3)): (0.4, 20), (3, 10, 40, seed(3)): (0.55, 38), (3, 10, 90, seed(3)): (0.9, 88),
    }  # fmt: skip
    assert stored[3, 10, 40, seed(3)]["metrics"] == {"accuracy": 0.55}
    for params, score in ((90, 0.9), (20, 0.4), (40, 0.55)):  # each point has its own predictions
        file = predictions.predictions_path(journal.folder, 3, 10, params, seed(3))
        (model,) = predictions.read(file, [score])
        assert model.values == pytest.approx(np.full((3, 1), score), abs=1e-3)
    assert [stored[3, 10, 40, seed(3)][name] for name in ("nonzero_params", "seconds", "memory")] == [38, 7.0, 5]
    assert [stored[3, 10, params, seed(3, 1)] for params in (20, 40, 90)] == [{"failed": "diverged"}] * 3
    assert [key[2] for key in pending(journal, 2) if key[0] == 3] == [20, 40, 90]  # they are retried


def test_a_slice_alone_is_confirmed_by_a_training_of_its_own(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.record(number, sliced(10, 900, 0.7, (40, 0.6)))
    journal.finish(number, "complete")
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    assert searcher._running["a"].trial == 3 and journal.snapshot().points[0].component_masks is not None
    searcher.on_trial_complete("a", {"evaluation": sliced(10, 900, 0.72, (36, 0.5)), "finished": True})
    assert [(key, value["score"]) for key, value in journal.snapshot().confirmed.items()] == [
        ((3, 10, 40, seed(3)), 0.5)
    ]


def test_an_interrupted_session_continues_with_the_missing_runs(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("b", {"evaluation": evaluation(10, 100, 0.6), "finished": True})
    assert len(pending(journal, 2)) == 3
    assert ConfirmSearcher(journal, 2, tmp_path).suggest("c")["number"] == f"1-10-{seed(1)}"


def test_failures_are_recorded_and_dead_runs_are_retried(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", {"failed": "out of memory", "done": True})
    for name in ("b", "c"):
        searcher.deaths[name] = Death("crashed")
        searcher.on_trial_complete(name, error=True)
        suggestion = searcher.suggest(chr(ord(name) + 1))
    assert suggestion == Searcher.FINISHED
    assert [value["failed"] for value in journal.snapshot().confirmed.values()] == ["out of memory", "crashed"]
    assert len(pending(journal, 1)) == 2  # the next session retries them


def test_training_that_kills_its_nodes_is_given_up(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("other")
    for name, step in (("a", 5), ("b", 10), ("c", 10), ("d", 10)):  # no progress from the third run on
        assert searcher.suggest(name)["number"] == f"2-10-{seed(2)}"
        searcher.on_trial_result(name, {"evaluation": evaluation(step, 100, 0.6), "finished": False})
        searcher.deaths[name] = Death("its node went away", preempted=True)
        searcher.on_trial_complete(name, error=True)
    assert searcher.suggest("e") is None
    assert journal.snapshot().confirmed == {(2, 10, 100, seed(2)): {"failed": "its node went away"}}


STORAGE_MISSING = Death("10.0.0.7 does not see the directory", storage_missing=True)


def test_nodes_without_the_directory_do_not_count_as_failures(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("fine")
    for step in range(1, 4):
        for name in "ab":
            assert searcher.suggest(name)["number"] == f"2-10-{seed(2)}"
            searcher.deaths[name] = STORAGE_MISSING
            searcher.on_trial_complete(name, error=True)
        assert searcher.suggest("held") is None
        searcher.on_trial_result("fine", {"evaluation": evaluation(step, 100, 0.6), "finished": False})
    searcher.on_trial_complete("fine", {"evaluation": evaluation(10, 100, 0.6), "finished": True})
    assert len(journal.snapshot().confirmed) == 1 and searcher.problem is None
    for name in "ab":
        searcher.suggest(name)
        searcher.deaths[name] = STORAGE_MISSING
        searcher.on_trial_complete(name, error=True)
    assert isinstance(searcher.problem, AutorankError) and searcher.suggest("c") == Searcher.FINISHED
    assert len(pending(journal, 1)) == 1


def test_after_the_deadline_runs_are_stopped_and_nothing_is_stored(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher._deadline = time.monotonic()
    assert not goes_on(searcher, "a", {}) and searcher.suggest("b") == Searcher.FINISHED
    searcher.on_trial_complete("a", {"evaluation": evaluation(5, 100, 0.6), "finished": False})
    assert journal.snapshot().confirmed == {} and not searcher.has_work()


def test_the_checkpoint_of_a_finished_run_is_deleted(journal, tmp_path):
    (tmp_path / "trials" / f"1-10-{seed(1)}").mkdir(parents=True)
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"evaluation": evaluation(10, 100, 0.6), "finished": True})
    assert list((tmp_path / "trials").iterdir()) == []


def test_checkpoints_of_other_points_of_a_killed_session_are_deleted(journal, tmp_path):
    for name in (f"0-10-{seed(0)}", f"1-10-{seed(1)}"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    ConfirmSearcher(journal, 1, tmp_path).suggest("a")
    assert [run_folder.name for run_folder in (tmp_path / "trials").iterdir()] == [f"1-10-{seed(1)}"]


def test_checkpoints_of_trainings_that_may_follow_are_kept(journal, tmp_path):
    """A killed session may have repeated several trainings with further seeds at once."""
    for number in range(2):
        for trial in (1, 2):
            journal.confirm(trial, 10, 100, seed(trial, number), {"score": 0.6})
    names = {f"1-10-{seed(1, 2)}", f"2-10-{seed(2, 3)}"}
    for name in (*names, f"1-10-{seed(1)}", f"1-20-{seed(1, 0, 20)}"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    ConfirmSearcher(journal, 3, tmp_path).plan()
    assert {run_folder.name for run_folder in (tmp_path / "trials").iterdir()} == names


def test_trainings_at_other_steps_have_other_seeds(journal):
    seeds = [list(islice(seeds_of(journal, trial, step), 3)) for trial, step in ((0, 1500), (1, 500), (0, 500))]
    assert len({seed for training in seeds for seed in training}) == 9


def test_new_seeds_exclude_the_seed_of_the_search(tmp_path):
    spec = search_spec("s", training=TrainingSpec(seed=seed(0)))
    with open_journal(spec, tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        journal.begin("lora", {"rank": 1, "learning_rate": 1e-3}, {})
        journal.record(0, evaluation(10, 1, 0.5))
        journal.finish(0, "complete")
        assert [seed for *_, seed in pending(journal, 2)] == [seed(0, 1), seed(0, 2)]


def test_seeds_of_earlier_versions_count(journal, tmp_path):
    """Earlier versions used the same seeds for all trainings."""
    journal.confirm(1, 10, 100, 1000, {"score": 0.6})
    journal.confirm(2, 10, 100, 1000, {"failed": "out of memory"})
    assert pending(journal, 2) == [(2, 10, 100, 1000), (1, 10, 100, seed(1)), (2, 10, 100, seed(2))]
    journal.confirm(1, 10, 100, 1001, {"score": 0.7})
    assert pending(journal, 2) == [(2, 10, 100, 1000), (2, 10, 100, seed(2))]


def test_runs_out_of_memory_are_retried_alone_with_half_the_micro_batch(journal, tmp_path):
    out_of_memory = {"failed": "out of memory", "out_of_memory": True}
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", out_of_memory)
    assert searcher.suggest("c") is None  # until b has ended
    searcher.on_trial_complete("b", out_of_memory)
    retry = searcher.suggest("c")
    assert retry["number"] == f"1-10-{seed(1)}" and retry["train"].training.accumulate == 2
    assert searcher.suggest("d") is None
    for name, following, number in (
        ("c", "e", f"2-10-{seed(2)}"),
        ("e", "f", f"1-10-{seed(1)}"),
        ("f", "g", f"2-10-{seed(2)}"),
    ):
        searcher.on_trial_complete(name, out_of_memory)
        assert searcher.suggest(following)["number"] == number
    searcher.on_trial_complete("g", out_of_memory)
    assert searcher.suggest("h")["train"].training.accumulate == 8
    searcher.on_trial_complete("h", out_of_memory)
    assert journal.snapshot().confirmed[1, 10, 100, seed(1)] == {"failed": "out of memory"}
    assert searcher.suggest("d")["number"] == f"2-10-{seed(2)}"


def test_further_seeds_follow_failures_that_are_repeated(journal, tmp_path, monkeypatch):
    """The results of repeated trainings replace those of the failed ones; their number stays the same."""

    def contested(points, snapshot):
        return {points[0].key: 1.0} if all("score" in result for result in snapshot.confirmed.values()) else {}

    monkeypatch.setattr("autorank.searching.confirm.contested", contested)
    for number in range(2):
        journal.confirm(1, 10, 100, seed(1, number), {"failed": "the GPU was busy"})
        journal.confirm(2, 10, 100, seed(2, number), {"score": 0.6})
    searcher = ConfirmSearcher(journal, 3, tmp_path)
    repeated = [searcher.suggest(name)["number"] for name in "ab"]
    assert repeated == [f"1-10-{seed(1)}", f"1-10-{seed(1, 1)}"] and searcher.suggest("c") is None
    for name in "ab":
        searcher.on_trial_complete(name, {"evaluation": evaluation(10, 100, 0.7), "finished": True})
    assert searcher.suggest("c")["number"] in {f"1-10-{seed(1, 2)}", f"2-10-{seed(2, 2)}"}


def test_an_error_of_the_plan_ends_the_session(journal, tmp_path, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("autorank.searching.confirm.trainings", broken)
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    assert searcher.suggest("a") == Searcher.FINISHED and isinstance(searcher.problem, ZeroDivisionError)


def test_a_full_disk_is_not_recorded_as_a_failure_of_the_run(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"failed": "OSError: [Errno 28] No space left on device"})
    assert isinstance(searcher.problem, OSError) and journal.snapshot().confirmed == {}


def test_trials_that_ran_out_of_memory_are_confirmed_with_half_the_micro_batch(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.note(number, reduced_micro_batch=1)
    journal.record(number, evaluation(10, 50, 0.95))
    journal.finish(number, "complete")
    suggestion = ConfirmSearcher(journal, 1, tmp_path).suggest("a")
    assert suggestion["number"] == f"{number}-10-{seed(number)}" and suggestion["train"].training.accumulate == 2
