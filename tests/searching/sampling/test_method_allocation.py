"""Which method gets the next trial: shares that hold in every search."""

from __future__ import annotations

from collections import Counter

from autorank.searching.sampling.method_allocation import MIN_TRIALS, next_method
from autorank.spec import MethodSpec
from autorank.trials.record import TrialRecord
from tests.searching.fake_runs import SPACE, search_spec

BASELINE = MethodSpec(method="lora", space=SPACE)
METHODS = ("lora-drop", "increlora", "prilora")


def allocate(trials: int, good: str | None = None, seed: int = 0, **values) -> list[str]:
    """Return the methods of this many trials, where all trials of `good`, and no others, are on the front."""
    spec = search_spec("s", *METHODS, seed=seed, **values)
    records: list[TrialRecord] = []
    for number in range(trials):
        front = {trial.number for trial in records if trial.method == good}
        entry = next_method(spec, records, front, {entry.method for entry in spec.entries})
        records.append(TrialRecord(number, entry.method, {}))
    return [trial.method for trial in records]


def test_every_fourth_trial_is_the_baselines() -> None:
    methods = allocate(40, baseline=BASELINE)
    assert [i for i, method in enumerate(methods) if method == "lora"] == list(range(3, 40, 4))
    assert "lora" not in allocate(40)


def test_methods_take_turns_until_each_has_enough_trials() -> None:
    first = allocate(3 * MIN_TRIALS)
    assert Counter(first) == dict.fromkeys(METHODS, MIN_TRIALS)
    assert first[:6] == [*METHODS, *METHODS]


def test_methods_that_extend_the_front_get_more_trials_and_none_is_given_up() -> None:
    shares = Counter(allocate(180, good="increlora"))
    assert shares["increlora"] > 100
    assert min(shares.values()) >= 180 // 9


def test_a_seed_repeats_the_allocation() -> None:
    assert allocate(60, good="prilora") == allocate(60, good="prilora")
    assert allocate(60, seed=1) != allocate(60, seed=2)


def test_an_exhausted_method_is_skipped() -> None:
    spec = search_spec("s", *METHODS, baseline=BASELINE)
    records = [TrialRecord(number, "lora-drop", {}) for number in range(3)]
    assert next_method(spec, records, set(), {"increlora", "prilora"}).method == "increlora"  # not the baseline
