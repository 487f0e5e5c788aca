"""Points of a front, trained again."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.confirm import ConfirmSearcher, pending
from autorank.searching.create import open_journal
from autorank.searching.retry_policy import Death
from autorank.spec import MethodSpec, TrainingSpec
from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.statistics import predictions
from tests.searching.driven import goes_on
from tests.searching.standin import SPACE, search_spec
from tests.trials.made_trials import evaluation, sliced

BASELINE = MethodSpec(method="lora", space=SPACE)


@pytest.fixture
def journal(tmp_path):
    """Of three trials: the first is dominated, the second's first evaluation is the front, the third the baseline's."""
    spec = search_spec("s", "lora-drop", baseline=BASELINE)
    with open_journal(spec, tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        trials = [("lora-drop", [0.5]), ("lora-drop", [0.9, 0.8]), ("lora", [0.7])]
        for number, (method, scores) in enumerate(trials):
            journal.begin(method, {"rank": 1, "learning_rate": 1e-3}, {}, baseline=method == "lora")
            for step, score in enumerate(scores, start=1):
                journal.record(number, evaluation(10 * step, 100, score))
            journal.finish(number, "complete")
        yield journal


def test_every_point_of_both_fronts_with_each_seed(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    asked = [searcher.suggest(str(i)) for i in range(4)]
    assert searcher.suggest("4") is None  # one of them may have to be tried again
    assert [(each["number"], each["until"]) for each in asked] == [
        ("1-10-2010", 10), ("2-10-3010", 10), ("1-10-2011", 10), ("2-10-3011", 10),
    ]  # fmt: skip
    train = asked[3]["train"]
    assert (train.method, train.training.seed, train.task.final) == ("lora", 3011, True)
    for i in range(4):
        searcher.on_trial_complete(str(i), {"evaluation": evaluation(10, 100, 0.6 + i / 10), "finished": True})
    assert searcher.suggest("5") == Searcher.FINISHED
    confirmed = journal.snapshot().confirmed
    assert {key: value["score"] for key, value in confirmed.items()} == pytest.approx(
        {(1, 10, 100, 2010): 0.6, (2, 10, 100, 3010): 0.7, (1, 10, 100, 2011): 0.8, (2, 10, 100, 3011): 0.9}
    )
    assert pending(journal, 2) == [] and pending(journal, 3) == []  # each front has one point, which is not open


def test_slices_of_one_evaluation_share_a_training(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.record(number, sliced(10, 90, 0.95, (20, 0.5), (40, 0.6)))
    journal.finish(number, "complete")
    assert len(pending(journal, 2)) == 2 * 4  # three points, and the baseline's
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    asked = [searcher.suggest(str(i)) for i in range(4)]
    assert [(each["number"], each["until"], each["sizes"]) for each in asked[:2]] == [
        ("3-10-4010", 10, [20, 40]), ("2-10-3010", 10, []),
    ]  # fmt: skip
    models = [Outcomes("mean", np.full((3, 1), score), np.zeros((3, 0), int), (3,)) for score in (0.9, 0.4, 0.55)]
    cut = sliced(10, 88, 0.9, (20, 0.4), (38, 0.55), seconds=7.0, peak_memory=5, predictions=pack(models))
    searcher.on_trial_complete("0", {"evaluation": cut, "finished": True})
    searcher.on_trial_complete("2", {"failed": "diverged"})
    stored = journal.snapshot().confirmed
    assert {key: (value["score"], value["adapter_params"]) for key, value in stored.items() if key[3] == 4010} == {
        (3, 10, 20, 4010): (0.4, 20), (3, 10, 40, 4010): (0.55, 38), (3, 10, 90, 4010): (0.9, 88),
    }  # fmt: skip
    assert stored[3, 10, 40, 4010]["metrics"] == {"accuracy": 0.55}
    for params, score in ((90, 0.9), (20, 0.4), (40, 0.55)):  # each point has its own predictions
        (model,) = predictions.read(predictions.predictions_path(journal.folder, 3, 10, params, 4010))
        assert model.values == pytest.approx(np.full((3, 1), score), abs=1e-3)
    assert [stored[3, 10, 40, 4010][name] for name in ("nonzero_params", "seconds", "memory")] == [38, 7.0, 5]
    assert [stored[3, 10, params, 4011] for params in (20, 40, 90)] == [{"failed": "diverged"}] * 3
    assert [key[2] for key in pending(journal, 2) if key[0] == 3] == [20, 40, 90]  # tried again


def test_a_slice_alone_is_confirmed_by_a_training_of_its_own(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.record(number, sliced(10, 900, 0.7, (40, 0.6)))
    journal.finish(number, "complete")
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    assert searcher._running["a"].trial == 3 and journal.snapshot().points[0].kept is not None
    searcher.on_trial_complete("a", {"evaluation": sliced(10, 900, 0.72, (36, 0.5)), "finished": True})
    assert [(key, value["score"]) for key, value in journal.snapshot().confirmed.items()] == [((3, 10, 40, 4010), 0.5)]


def test_an_interrupted_session_continues_with_the_missing_runs(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 2, tmp_path)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("b", {"evaluation": evaluation(10, 100, 0.6), "finished": True})
    assert len(pending(journal, 2)) == 3
    assert ConfirmSearcher(journal, 2, tmp_path).suggest("c")["number"] == "1-10-2010"


def test_failures_are_recorded_and_dead_runs_are_retried(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", {"failed": "out of memory", "done": True})
    for name in ("b", "c"):
        searcher.deaths[name] = Death("crashed")
        searcher.on_trial_complete(name, error=True)
        again = searcher.suggest(chr(ord(name) + 1))
    assert again == Searcher.FINISHED
    assert [value["failed"] for value in journal.snapshot().confirmed.values()] == ["out of memory", "crashed"]
    assert len(pending(journal, 1)) == 2  # another session tries again


def test_training_that_kills_its_nodes_is_given_up(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("other")
    for name, step in (("a", 5), ("b", 10), ("c", 10), ("d", 10)):  # from the third on it comes no further
        assert searcher.suggest(name)["number"] == "2-10-3010"
        searcher.on_trial_result(name, {"evaluation": evaluation(step, 100, 0.6), "finished": False})
        searcher.deaths[name] = Death("its node went away", preempted=True)
        searcher.on_trial_complete(name, error=True)
    assert searcher.suggest("e") is None
    assert journal.snapshot().confirmed == {(2, 10, 100, 3010): {"failed": "its node went away"}}


STORAGE_MISSING = Death("10.0.0.7 does not see the folder", storage_missing=True)


def test_nodes_without_the_directory_do_not_count_as_failures(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, retries=1)
    searcher.suggest("fine")
    for step in range(1, 4):
        for name in "ab":
            assert searcher.suggest(name)["number"] == "2-10-3010"
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


def test_time_that_is_up_cuts_off_and_stores_nothing(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher._deadline = time.monotonic()
    assert not goes_on(searcher, "a", {}) and searcher.suggest("b") == Searcher.FINISHED
    searcher.on_trial_complete("a", {"evaluation": evaluation(5, 100, 0.6), "finished": False})
    assert journal.snapshot().confirmed == {} and not searcher.has_work()


def test_a_checkpoint_goes_with_its_run(journal, tmp_path):
    (tmp_path / "trials" / "1-10-2010").mkdir(parents=True)
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"evaluation": evaluation(10, 100, 0.6), "finished": True})
    assert list((tmp_path / "trials").iterdir()) == []


def test_checkpoints_of_other_points_of_a_killed_session_are_deleted(journal, tmp_path):
    for name in ("0-10-1010", "1-10-2010"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    ConfirmSearcher(journal, 1, tmp_path).suggest("a")
    assert [home.name for home in (tmp_path / "trials").iterdir()] == ["1-10-2010"]


def test_new_seeds_exclude_the_seed_of_the_search(tmp_path):
    spec = search_spec("s", training=TrainingSpec(seed=1010))
    with open_journal(spec, tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        journal.begin("lora", {"rank": 1, "learning_rate": 1e-3}, {})
        journal.record(0, evaluation(10, 1, 0.5))
        journal.finish(0, "complete")
        assert [seed for *_, seed in pending(journal, 2)] == [1011, 1012]


def test_seeds_of_earlier_versions_count(journal, tmp_path):
    """They were the same for all trainings."""
    journal.confirm(1, 10, 100, 1000, {"score": 0.6})
    journal.confirm(2, 10, 100, 1000, {"failed": "out of memory"})
    assert pending(journal, 2) == [(2, 10, 100, 1000), (1, 10, 100, 2010), (2, 10, 100, 3010)]
    journal.confirm(1, 10, 100, 1001, {"score": 0.7})
    assert pending(journal, 2) == [(2, 10, 100, 1000), (2, 10, 100, 3010)]


def test_runs_out_of_memory_are_retried_alone_with_half_the_micro_batch(journal, tmp_path):
    memory = {"failed": "out of memory", "out_of_memory": True}
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", memory)
    assert searcher.suggest("c") is None  # until b has ended
    searcher.on_trial_complete("b", memory)
    again = searcher.suggest("c")
    assert again["number"] == "1-10-2010" and again["train"].training.accumulate == 2
    assert searcher.suggest("d") is None
    for name, following, number in (("c", "e", "2-10-3010"), ("e", "f", "1-10-2010"), ("f", "g", "2-10-3010")):
        searcher.on_trial_complete(name, memory)
        assert searcher.suggest(following)["number"] == number
    searcher.on_trial_complete("g", memory)
    assert searcher.suggest("h")["train"].training.accumulate == 8
    searcher.on_trial_complete("h", memory)
    assert journal.snapshot().confirmed[1, 10, 100, 2010] == {"failed": "out of memory"}
    assert searcher.suggest("d")["number"] == "2-10-3010"


def test_a_full_disk_is_nobodys_failure(journal, tmp_path):
    searcher = ConfirmSearcher(journal, 1, tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"failed": "OSError: [Errno 28] No space left on device"})
    assert isinstance(searcher.problem, OSError) and journal.snapshot().confirmed == {}


def test_trials_that_ran_out_of_memory_are_confirmed_with_half_the_micro_batch(journal, tmp_path):
    number = journal.begin("lora-drop", {"rank": 2, "learning_rate": 1e-3}, {}).number
    journal.note(number, reduced_micro_batch=1)
    journal.record(number, evaluation(10, 50, 0.95))
    journal.finish(number, "complete")
    asked = ConfirmSearcher(journal, 1, tmp_path).suggest("a")
    assert asked["number"] == f"{number}-10-{1000 * (number + 1) + 10}" and asked["train"].training.accumulate == 2
