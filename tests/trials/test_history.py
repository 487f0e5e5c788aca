"""How fronts grow, against fronts computed from scratch."""

from __future__ import annotations

import random

import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import front, hypervolume
from autorank.trials.history import History
from tests.trials.trial_factories import START, trial


def test_history_follows_the_order_in_which_trials_end():
    first, second = trial(0, (100, 0.7), ended=START + 500), trial(1, (400, 0.9), ended=START + 110)
    history = History((1000, 0.5)).update([first, second, trial(2, (1, 0.99), state="running")])
    assert [[p.trial for p in after.points] for after in history] == [[1], [0, 1]]
    assert [after.hypervolume for after in history] == pytest.approx([600 * 0.4 / 500, 0.6])
    assert [after.at - START for after in history] == [110, 500]


@pytest.mark.parametrize("third_objective", [None, "seconds"])
def test_a_history_that_grows_is_the_one_from_scratch(third_objective):
    draw = random.Random(7)
    objectives = ObjectivesSpec(third_objective=third_objective, max_params=900)
    trials = [
        trial(i, *((draw.randrange(1000), draw.random()) for _ in range(draw.randrange(4))), baseline=i % 5 == 3,
              state=draw.choice(["complete", "pruned", "failed"]), ended=START + draw.randrange(10_000))
        for i in range(40)
    ]  # fmt: skip
    order = sorted(trials, key=lambda t: (t.ended, t.number))
    growing = History((1000, 0.2), objectives)
    for count in (0, 1, 2, 2, 17, 39, 40):
        ended = {t.number for t in order[:count]}
        current_trials = [t if t.number in ended else trial(t.number, (1, 1.0), state="running") for t in trials]
        steps = growing.update(current_trials)
        assert steps == History((1000, 0.2), objectives).update(current_trials) and len(steps) == count
        for past, after in enumerate(steps):
            points = front(sorted(order[: past + 1], key=lambda t: t.number), objectives)
            assert [(p.adapter_params, p.score) for p in after.points] == [(p.adapter_params, p.score) for p in points]
            assert after.hypervolume == pytest.approx(hypervolume(points, (1000, 0.2)))
    assert steps[0].hypervolume < steps[-1].hypervolume


def test_history_counts_the_baseline_s_trials_but_not_their_points():
    trials = [trial(0, (100, 0.7)), trial(1, (10, 0.9), baseline=True), trial(2, (50, 0.6))]
    history = History((1000, 0.5)).update(trials)
    assert [[p.trial for p in after.points] for after in history] == [[0], [0], [2, 0]]
    assert history[0].hypervolume == history[1].hypervolume == pytest.approx(900 * 0.2 / 500)
