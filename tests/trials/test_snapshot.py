"""The incremental front against the one from scratch, and both against the definition."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import NO_LIMITS, candidates, front
from autorank.trials.snapshot import IncrementalFront
from tests.trials.trial_factories import evaluation, sliced, trial

OBJECTIVES = {
    "two": NO_LIMITS,
    "within limits": ObjectivesSpec(max_params=6, min_score=0.2, max_memory=6),
    "nonzero": ObjectivesSpec(third_objective="nonzero_params"),
    "seconds": ObjectivesSpec(third_objective="seconds"),
    "memory within limits": ObjectivesSpec(third_objective="memory", max_params=7, max_memory=5),
}


def random_trials(seed, size):
    """Trials on a coarse grid, so that ties of some and of all objectives abound; some scores are not finite."""
    draw = random.Random(seed)
    scores = [*(i / 8 for i in range(9)), math.nan, math.inf, -math.inf]

    def random_evaluation(step):
        return sliced(
            step,
            draw.randrange(9),
            draw.choice(scores),
            *((size, draw.choice(scores)) for size in sorted(draw.sample(range(9), draw.randrange(3)))),
            nonzero_params=draw.randrange(3),
            seconds=float(draw.randrange(3)),
            peak_memory=draw.randrange(8),
        )

    return [
        trial(
            number,
            *(random_evaluation(step) for step in range(1, draw.randrange(1, 5))),
            baseline=draw.random() < 0.3,
            state=draw.choice(["complete", "running", "failed", "pruned"]),
        )
        for number in range(size)
    ]


def arrivals(trials):
    return [(record, result) for record in trials for result in record.evaluations]


def by_definition(trials, objectives, baseline):
    """Return the keys of the non-dominated points; on a tie an adapter precedes slices, then the earliest wins."""

    def values(p):
        third = () if objectives.third_objective is None else (getattr(p, objectives.third_objective),)
        return (p.adapter_params, -p.score, *third)

    points = candidates([record for record in trials if record.baseline == baseline], objectives)
    return {
        (*p.key, p.component_masks is None)
        for p in points
        if not any(
            q is not p
            and all(a <= b for a, b in zip(values(q), values(p), strict=True))
            and (
                values(q) != values(p)
                or (bool(q.component_masks), q.trial, q.step) < (bool(p.component_masks), p.trial, p.step)
            )
            for q in points
        )
    }


@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("seed", range(12))
def test_front_does_not_depend_on_the_order_of_evaluations(objectives, seed):
    trials = random_trials(seed, size=30)
    expected = front(trials, objectives), front(trials, objectives, baseline=True)
    for points, baseline in zip(expected, (False, True), strict=True):
        assert {(*p.key, p.component_masks is None) for p in points} == by_definition(trials, objectives, baseline)
    pairs = arrivals(trials)
    for order in range(5):
        if order:
            random.Random(order).shuffle(pairs)
        archive = IncrementalFront(objectives)
        for record, result in pairs:
            archive.add(record, result)
        assert (archive.points, archive.baseline) == expected
    rebuilt = IncrementalFront(objectives, trials)
    assert (rebuilt.points, rebuilt.baseline) == expected


@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
def test_archive_equals_the_front_after_every_evaluation(objectives):
    trials = random_trials(99, size=12)
    pairs = arrivals(trials)
    random.Random(0).shuffle(pairs)
    archive, evaluations = IncrementalFront(objectives), {number: [] for number in range(len(trials))}
    for record, result in pairs:
        archive.add(record, result)
        evaluations[record.number].append(result)
        so_far = [
            trial(t.number, *sorted(evaluations[t.number], key=lambda e: e.step), state=t.state, baseline=t.baseline)
            for t in trials
        ]
        assert archive.points == front(so_far, objectives)
        assert archive.baseline == front(so_far, objectives, baseline=True)


def test_the_earliest_of_equal_points_stays_whichever_comes_first():
    equal = [(trial(number), evaluation(step, 5, 0.5)) for number, step in [(0, 20), (0, 10), (1, 5), (2, 1)]]
    for order in itertools.permutations(equal):
        archive = IncrementalFront(NO_LIMITS)
        for record, result in order:
            archive.add(record, result)
        assert [(p.trial, p.step) for p in archive.points] == [(0, 10)]


def test_a_whole_adapter_is_preferred_to_an_equal_slice():
    pairs = [(trial(0), sliced(10, 9, 0.1, (5, 0.5))), (trial(1), evaluation(10, 5, 0.5))]
    for order in itertools.permutations(pairs):
        archive = IncrementalFront(NO_LIMITS)
        for record, result in order:
            archive.add(record, result)
        assert [(p.key, p.component_masks) for p in archive.points] == [((1, 10, 5), None)]


def test_the_baseline_has_a_separate_front():
    archive = IncrementalFront(NO_LIMITS, [trial(0, (100, 0.6)), trial(1, (50, 0.9), baseline=True, method="lora")])
    assert [(p.trial, p.method, p.knee) for p in archive.points] == [(0, "lora-drop", True)]
    assert [(p.trial, p.method, p.knee) for p in archive.baseline] == [(1, "lora", True)]


def test_earlier_snapshots_are_unchanged_by_new_evaluations():
    archive = IncrementalFront(NO_LIMITS, [trial(0, (100, 0.6))])
    before = archive.points
    archive.add(trial(1), evaluation(1, 50, 0.9))
    assert [p.trial for p in before] == [0] and [p.trial for p in archive.points] == [1]
