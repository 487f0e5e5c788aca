"""Intervals and probabilities of a front's points, computed from their predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from autorank.spec import ObjectivesSpec
from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import bootstrap, predictions, retrained_scores
from autorank.trials.statistics.certainty import assess
from autorank.trials.statistics.confirmation_stats import summarize
from tests.trials.searches_with_predictions import EXAMPLES, LABELS, model, search_with_predictions, small_search
from tests.trials.trial_factories import snapshot, trial


def test_an_interval_is_that_of_a_binomial(tmp_path: Path) -> None:
    certainty = assess(search_with_predictions(tmp_path, [trial(0, (100, 0.8))], {0: model(0.8)}))
    assert certainty is not None and certainty.examples == EXAMPLES and certainty.missing == 0
    point = certainty.points[0, 10, 100]
    deviation = 1.645 * np.sqrt(0.8 * 0.2 / EXAMPLES)
    assert (point.low, point.high) == pytest.approx((0.8 - deviation, 0.8 + deviation), abs=0.006)
    assert (point.on_front, point.knee, point.better, certainty.expected_drop) == (1, 1, None, 0)


def test_points_share_the_resamples(tmp_path: Path) -> None:
    """The second's mistakes are a subset of the first's, so it is better on each resample with one of the others."""
    trials = [trial(0, (100, 0.8)), trial(1, (200, 0.81)), trial(2, (300, 0.81))]
    certainty = assess(search_with_predictions(tmp_path, trials[:2], {0: model(0.8), 1: model(0.81)}))
    assert certainty is not None
    assert certainty.points[1, 10, 200].on_front == pytest.approx(1 - np.exp(-4), abs=0.02)
    apart = assess(search_with_predictions(tmp_path / "b", trials[:2], {0: model(0.8), 1: model(0.81, shift=100)}))
    assert apart is not None and 0.5 < apart.points[1, 10, 200].on_front < 0.8


def test_points_near_the_front_take_part(tmp_path: Path) -> None:
    trials = [trial(0, (100, 0.8)), trial(1, (90, 0.79)), trial(2, (80, 0.5))]
    models = {0: model(0.8), 1: model(0.79, shift=90), 2: model(0.5, shift=30)}
    certainty = assess(search_with_predictions(tmp_path, trials, models))
    assert certainty is not None and set(certainty.points) == {(0, 10, 100), (1, 10, 90), (2, 10, 80)}
    assert certainty.points[0, 10, 100].on_front < 0.75 and certainty.expected_drop > 0.003
    beaten = assess(
        search_with_predictions(tmp_path / "b", [*trials, trial(3, (95, 0.79))], models | {3: model(0.79, shift=200)})
    )
    assert beaten is not None and (3, 10, 95) not in beaten.points
    assert beaten.points[0, 10, 100].on_front < certainty.points[0, 10, 100].on_front


def test_gains_over_the_baseline_at_equal_parameters(tmp_path: Path) -> None:
    search = small_search(tmp_path)
    certainty = assess(search)
    assert certainty is not None
    point = certainty.points[0, 10, 100]  # against trial 3, which makes other mistakes
    assert point.gain_low is not None and point.gain_high is not None
    assert point.gain_low < 0.01 < point.gain_high and point.better == pytest.approx(0.64, abs=0.08)
    assert certainty.points[1, 10, 40].better is None  # no baseline as small


def test_limits_hold_for_rivals_too(tmp_path: Path) -> None:
    trials = [trial(0, (100, 0.8)), trial(1, (300, 0.9))]
    search = search_with_predictions(tmp_path, trials, {0: model(0.8), 1: model(0.9)})
    limited = replace(snapshot(trials, ObjectivesSpec(max_params=200)), folder=tmp_path)
    for current, count in ((search, 2), (limited, 1)):
        certainty = assess(current)
        assert certainty is not None and len(certainty.points) == count


def test_points_without_predictions_or_on_other_examples_are_counted(tmp_path: Path) -> None:
    trials = [trial(number, (100 * (number + 1), 0.6 + number / 10)) for number in range(4)]
    models = {0: model(0.6), 1: model(0.7), 3: model(0.9, labels=1 - LABELS)}
    certainty = assess(search_with_predictions(tmp_path, trials, models))
    assert certainty is not None and (len(certainty.points), certainty.missing) == (2, 2)
    assert assess(snapshot(trials)) is None and assess(search_with_predictions(tmp_path / "b", trials, {})) is None


def test_intervals_combine_the_variances_of_seeds_and_examples(tmp_path: Path) -> None:
    """The deviation of the mean is that of the examples and that of the seeds, which are independent."""
    seeds = {1000: 0.78, 1001: 0.8, 1002: 0.82}
    confirmed = {(0, 10, 100, seed): {"score": score} for seed, score in seeds.items()}
    trials = [trial(0, (100, 0.8))]
    alone = summarize(*with_confirmations(snapshot(trials), confirmed))[0, 10, 100]
    for seed, score in seeds.items():
        predictions.write(pack([model(score)]), tmp_path, 0, 10, 100, seed)
    search = replace(snapshot(trials), folder=tmp_path)
    joint = summarize(*with_confirmations(search, confirmed))[0, 10, 100]
    assert alone.low is not None and alone.high is not None and joint.low is not None and joint.high is not None
    of_seeds = 2.92 * 0.02 / np.sqrt(3)  # Student's t with 2 degrees of freedom
    assert (alone.high - alone.low) / 2 == pytest.approx(of_seeds, rel=0.05)
    of_examples = 1.645 * np.sqrt(0.8 * 0.2 / EXAMPLES)
    assert (joint.high - joint.low) / 2 == pytest.approx(np.hypot(of_seeds, of_examples), rel=0.1)
    assert (joint.low + joint.high) / 2 == pytest.approx(0.8, abs=0.003)


def with_confirmations(search: Snapshot, confirmed: dict) -> tuple:
    search = replace(search, confirmed=confirmed)
    return search.points, search


@pytest.mark.parametrize("deviation", [0.03, 0.15])
def test_intervals_over_seeds_and_examples_have_their_nominal_coverage(
    deviation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings with three seeds: their skill varies, and each also makes mistakes of its own."""
    monkeypatch.setattr(retrained_scores, "DRAWS", 4000)
    draw, skill, hits = np.random.default_rng(5), 0.9 + 0.05 * np.arange(6), []
    true = norm.cdf(skill / np.sqrt(1 + deviation**2))
    for _ in range(100):
        difficulty, samples = np.sqrt(0.7) * draw.normal(size=EXAMPLES), []
        for level in skill:
            models = []
            for _ in range(3):
                noise = difficulty + np.sqrt(0.3) * draw.normal(size=EXAMPLES)
                wrong = noise > level + deviation * draw.normal()
                models.append(Outcomes("accuracy", wrong.astype(int)[:, None], 0 * LABELS[:, None], (EXAMPLES,)))
            scores = np.array([1 - model.values.mean() for model in models])
            samples.append(retrained_scores.Measured(scores, (100.0,), 0, tuple(models)))
        draws = retrained_scores.draws(samples)
        assert draws is not None
        for index in range(5):
            for values, value in (
                (draws[:, index], true[index]),
                (draws[:, index] - draws[:, 5], true[index] - true[5]),
            ):
                low, high = bootstrap.interval(values)
                hits.append(low <= value <= high)
    assert 0.85 <= np.mean(hits) <= 0.95
