"""Whose turn it is: shares that hold in every search."""

from __future__ import annotations

from collections import Counter

from autorank.searching.sampling.method_allocation import MIN_TRIALS, next_method
from autorank.spec import MethodSpec
from autorank.trials.record import TrialRecord
from tests.searching.standin import SPACE, search_spec

BASELINE = MethodSpec(method="lora", space=SPACE)
METHODS = ("lora-drop", "increlora", "prilora")


def dealt(trials: int, good: str | None = None, seed: int = 0, **values) -> list[str]:
    """The methods of so many turns, where all trials of `good`, and no others, are on the front."""
    spec = search_spec("s", *METHODS, seed=seed, **values)
    had: list[TrialRecord] = []
    for number in range(trials):
        front = {trial.number for trial in had if trial.method == good}
        entry = next_method(spec, had, front, {entry.method for entry in spec.entries})
        had.append(TrialRecord(number, entry.method, {}))
    return [trial.method for trial in had]


def test_every_fourth_is_the_baselines() -> None:
    methods = dealt(40, baseline=BASELINE)
    assert [i for i, method in enumerate(methods) if method == "lora"] == list(range(3, 40, 4))
    assert "lora" not in dealt(40)


def test_methods_take_turns_until_each_has_enough_trials() -> None:
    first = dealt(3 * MIN_TRIALS)
    assert Counter(first) == dict.fromkeys(METHODS, MIN_TRIALS)
    assert first[:6] == [*METHODS, *METHODS]


def test_methods_that_extend_the_front_get_more_trials_and_none_is_given_up() -> None:
    shares = Counter(dealt(180, good="increlora"))
    assert shares["increlora"] > 100
    assert min(shares.values()) >= 180 // 9


def test_a_seed_deals_the_same_again() -> None:
    assert dealt(60, good="prilora") == dealt(60, good="prilora")
    assert dealt(60, seed=1) != dealt(60, seed=2)


def test_a_method_with_nothing_left_is_passed_over() -> None:
    spec = search_spec("s", *METHODS, baseline=BASELINE)
    had = [TrialRecord(number, "lora-drop", {}) for number in range(3)]
    assert next_method(spec, had, set(), {"increlora", "prilora"}).method == "increlora"  # not the baseline
