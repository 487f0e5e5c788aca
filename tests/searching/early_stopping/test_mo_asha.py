"""Rungs against cases worked by hand and against the definition."""

from __future__ import annotations

import itertools
import random

import pytest

from autorank.searching.early_stopping.mo_asha import Halving, Reached, best_points, layers, promoted, spread
from autorank.spec import HalvingSpec


def beats(first: Reached, second: Reached) -> bool:
    return first.params <= second.params and first.score > second.score


def layers_by_definition(rung: list[Reached]) -> list[int]:
    """Remove the trials that no remaining one beats, repeatedly."""
    numbers, layer = [-1] * len(rung), 0
    while -1 in numbers:
        remaining = [i for i, number in enumerate(numbers) if number == -1]
        for i in [i for i in remaining if not any(beats(rung[j], rung[i]) for j in remaining)]:
            numbers[i] = layer
        layer += 1
    return numbers


def test_layers_agree_with_their_definition() -> None:
    draw = random.Random(0)
    for size in range(1, 40):
        rung = [Reached(draw.randint(1, 6), draw.randint(0, 6) / 6) for _ in range(size)]  # many ties
        assert layers(rung) == layers_by_definition(rung)


def test_a_trial_with_fewer_parameters_but_no_higher_score_beats_none() -> None:
    assert layers([Reached(10, 0.5), Reached(100, 0.5)]) == [0, 0]  # scores do not differ yet
    assert layers([Reached(10, 0.5), Reached(100, 0.9)]) == [0, 0]
    assert layers([Reached(10, 0.6), Reached(100, 0.5)]) == [0, 1]
    assert layers([Reached(10, 0.5), Reached(10, 0.6)]) == [1, 0]


def without_slices(points: list[Reached]) -> list[list[Reached]]:
    """Trials without slices."""
    return [[point] for point in points]


def test_a_trial_is_beaten_when_its_whole_curve_is() -> None:
    strong = [Reached(1000, 0.8), Reached(100, 0.7), Reached(10, 0.5)]
    best_small = [Reached(1000, 0.6), Reached(10, 0.6)]  # its slice is the best of that size
    beaten = [Reached(900, 0.65), Reached(100, 0.6), Reached(10, 0.4)]
    numbers, tops = best_points([strong, best_small, beaten])
    assert numbers == [0, 0, 1]
    assert tops == [Reached(1000, 0.8), Reached(10, 0.6), Reached(900, 0.65)]
    rung = [strong, best_small, beaten]
    assert [promoted(rung, i, factor=3) for i in range(3)] == [True, True, False]


def test_a_curve_is_as_good_as_the_best_of_its_points() -> None:
    draw = random.Random(1)
    for size in range(1, 25):
        rung = [[Reached(draw.randint(1, 9), draw.randint(0, 9)) for _ in range(4)] for _ in range(size)]
        numbers, _ = best_points(rung)
        for number, curve in enumerate(rung):
            rivals = [point for i, rival in enumerate(rung) if i != number for point in rival]
            unbeaten = any(not any(beats(rival, point) for rival in rivals) for point in curve)
            assert (numbers[number] == 0) == unbeaten


def test_all_trials_that_are_not_beaten_continue() -> None:
    front = [Reached(10 * i, 0.5 + i / 100) for i in range(1, 10)]
    assert all(promoted(without_slices(front), i, factor=3) for i in range(9))


def test_a_third_of_the_trials_continues() -> None:
    chain = [Reached(10, 0.9 - i / 100) for i in range(9)]  # each beaten by all before
    assert [promoted(without_slices(chain), i, factor=3) for i in range(9)] == [True] * 3 + [False] * 6


def test_all_trials_continue_while_there_are_fewer_than_the_factor() -> None:
    assert promoted(without_slices([Reached(10, 0.9), Reached(10, 0.1)]), 1, factor=3)
    assert not promoted(without_slices([Reached(10, 0.9), Reached(10, 0.5), Reached(10, 0.1)]), 2, factor=3)


def test_a_layer_that_fits_only_in_part_is_cut_by_spread() -> None:
    """A first layer of one and a second of three: two of six continue, so one of these three."""
    first = [Reached(1, 0.9)]
    second = [Reached(10, 0.3), Reached(100, 0.5), Reached(1000, 0.7)]
    third = [Reached(10, 0.1), Reached(100, 0.2)]
    rung = first + second + third
    assert layers(rung) == [0, 1, 1, 1, 2, 2]
    assert [promoted(without_slices(rung), i, factor=3) for i in range(6)] == [True, False, False, True, False, False]


def test_spread_takes_the_highest_score_then_always_the_farthest() -> None:
    # log10: 1, 2, 4 -> 0, 1/3, 1; scores 0, 0.5, 1: from (1, 1) the first is at √2, the second at √(4/9 + 1/4)
    assert spread([Reached(10, 0.5), Reached(100, 0.6), Reached(10_000, 0.7)]) == [2, 0, 1]
    assert spread([Reached(10, 0.5)] * 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("spec", "rungs"),
    [
        (HalvingSpec(grace=1), [1, 3, 9, 27]),
        (HalvingSpec(), [9, 27]),  # a third of a run of 27,
        (HalvingSpec(grace=2, factor=2), [2, 4, 8, 16]),
    ],
)
def test_rungs(spec: HalvingSpec, rungs: list[int]) -> None:
    assert [n for n in range(1, 28) if Halving(spec, 27).is_rung(n)] == rungs


def decide(halving: Halving, method: str, number: int, curve: list[Reached]) -> bool:
    """Whether a trial continues that reaches the first rung."""
    halving.record(method, number, 1, curve)
    return halving.continues(method, number, 1)


def test_methods_are_not_compared() -> None:
    halving = Halving(HalvingSpec(grace=1), 9)
    for number, method in itertools.product(range(4), ("lora", "adalora")):
        score = 0.9 if method == "lora" else 0.1
        assert decide(halving, method, number, [Reached(10, score + number / 1000)])
    assert not decide(halving, "lora", 4, [Reached(10, 0.5)])
    assert decide(halving, "adalora", 4, [Reached(10, 0.5)])


def test_repeated_decisions_are_equal() -> None:
    """A trial that resumes after a crash is decided on again, and counts once."""
    halving = Halving(HalvingSpec(), 3)
    for number in range(4):
        decide(halving, "lora", number, [Reached(10, 0.9 - number / 100)])
    for _ in range(3):
        assert decide(halving, "lora", 1, [Reached(10, 0.89)])
        assert not decide(halving, "lora", 3, [Reached(10, 0.87)])
