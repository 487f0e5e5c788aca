"""Seeds beyond the first few go to points whose place on the front is open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autorank.searching.confirm import ConfirmSearcher, pending
from autorank.searching.confirmation_seeds import equal_seeds, next_training
from autorank.searching.create import open_journal
from autorank.trials.statistics import bootstrap
from tests.searching.fake_runs import search_spec
from tests.trials.trial_factories import evaluation

COSTS = np.array([[10.0], [20.0], [30.0]])


@pytest.mark.parametrize(("seeds", "equal"), [(1, 1), (2, 2), (3, 2), (4, 3), (10, 3)])
def test_a_few_seeds_are_equal(seeds: int, equal: int) -> None:
    assert equal_seeds(seeds) == equal


def test_the_training_with_the_largest_weight_for_its_seeds_is_next() -> None:
    assert next_training({"a": 3, "b": 3}, {"a": 0.1, "b": 0.2}, 4) == "b"
    assert next_training({"a": 3, "b": 4}, {"a": 0.1, "b": 0.12}, 6) == "a"  # 0.1 / 12 > 0.12 / 20
    assert next_training({"a": 3, "b": 3}, {}, 4) is None  # nothing is open
    assert next_training({"a": 3, "b": 5}, {"a": 0.1, "b": 0.2}, 4) is None  # all seeds are spent
    assert next_training({"a": 0, "b": 8}, {"a": 0.0, "b": 0.2}, 4) is None  # at most twice the mean


def test_an_open_point_and_its_rival_weigh_as_much() -> None:
    draw = np.random.default_rng(0)
    scores = np.array([0.5, 0.8, 0.8]) + 0.01 * draw.normal(size=(4000, 3))
    weights = bootstrap.contested(scores, COSTS)
    assert weights == pytest.approx([0, 0.25, 0.25], abs=0.005)


def test_undominated_point_is_not_contested() -> None:
    scores = np.array([0.5, 0.6, 0.7]) + 0.001 * np.random.default_rng(0).normal(size=(100, 3))
    assert bootstrap.contested(scores, COSTS) == [0, 0, 0]


def test_seeds_beyond_the_equal_ones_go_to_points_that_are_open(tmp_path: Path) -> None:
    """The smallest point is decided; the two others are equally good. In all there are four seeds per point."""
    means = {0: 0.5, 1: 0.8, 2: 0.801}
    with open_journal(search_spec("s"), tmp_path / "s", lambda: (64.0, 0.0)) as journal:
        for number, score in means.items():
            journal.begin("lora", {"rank": number + 1, "learning_rate": 1e-3}, {})
            journal.record(number, evaluation(10, 10 * (number + 1), score))
            journal.finish(number, "complete")
        searcher, noise = ConfirmSearcher(journal, 4, tmp_path), np.random.default_rng(1)
        names = []
        while isinstance(suggested := searcher.suggest(str(len(names))), dict):
            name = suggested["number"]
            names.append(name)
            number = int(name.split("-")[0])
            score = means[number] + 0.01 * noise.normal()
            searcher.on_trial_complete(str(len(names) - 1), {"evaluation": evaluation(10, 10, score), "finished": True})
        assert len(names) == len(set(names)) == 12 and searcher.problem is None
        assert sorted(name.split("-")[0] for name in names[:9]) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
        assert all(name[0] in "12" for name in names[9:])
        assert pending(journal, 4) == [] and len(pending(journal, 5)) == 1
