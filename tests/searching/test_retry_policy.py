"""The retry policy of trials, confirmations and recipes."""

from __future__ import annotations

import pytest

from autorank.searching.retry_policy import Death, RetryPolicy
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec


def run(batch_size: int | None, accumulate: int | str) -> TrainSpec:
    training = TrainingSpec(batch_size=batch_size, accumulate=accumulate)
    return TrainSpec(task=TaskSpec(name="demo"), method="lora", training=training)


@pytest.mark.parametrize(
    ("batch_size", "before", "after"),
    [
        (12, 4, [12]),
        (12, 1, [2, 4, 12]),
        (16, 1, [2, 4, 8]),
        (5, 5, []),
        (None, 3, [6, 12, 24]),
        (8, "auto", ["auto"] * 3),  # the run has doubled the number that it measured
    ],
)
def test_micro_batches_are_halved_up_to_three_times(batch_size, before, after):
    policy, train = RetryPolicy(retries=0), run(batch_size, before)
    micro_batches = []
    while policy.retry("run", 0, train, None, out_of_memory=True):
        micro_batches.append(policy.reduced("run", train).training.accumulate)
    assert micro_batches == after and policy.alone("run") == bool(after)
    assert policy.reduced("another", train) == train and not policy.alone("another")


def test_deaths_count_unless_the_machine_caused_them():
    policy, train = RetryPolicy(retries=1), run(8, 1)
    crashed, preempted = Death("crashed"), Death("its node went away", preempted=True)
    storage_missing = Death("its node does not see the directory", storage_missing=True)
    assert policy.retry("run", 3, train, preempted) and policy.retry("run", 4, train, preempted)
    assert all(policy.retry("run", 4, train, storage_missing) for _ in range(5)) and policy.deaths("run") == 0
    assert policy.retry("run", 5, train, preempted) and policy.deaths("run") == 0
    assert policy.retry("run", 5, train, preempted) and policy.deaths("run") == 1  # no progress in between
    assert not policy.retry("run", 9, train, crashed)
    assert not policy.retry("new", 9, train, None)


def test_runs_that_may_bring_down_others_are_retried_alone():
    policy, train, lost = RetryPolicy(retries=2), run(8, 1), Death("its pack died", preempted=True, shared=True)
    assert policy.retry("run", 3, train, lost) and not policy.alone("run")
    assert policy.retry("run", 3, train, lost) and policy.alone("run")  # twice without progress
    assert policy.retry("other", 3, train, Death("crashed")) and not policy.alone("other")


def test_counts_of_an_earlier_session_are_restored():
    policy, train = RetryPolicy(retries=2), run(16, 1)
    policy.restore("run", deaths=2, halvings=2)
    assert policy.reduced("run", train).training.accumulate == 4
    assert not policy.retry("run", 1, train, Death("crashed"))
