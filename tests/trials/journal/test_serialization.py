"""Evaluations as lines of the journal, which are short and do not repeat the names of layers."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import pytest

from autorank.training.evaluation import Slice
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.serialization import PackedMasks
from tests.trials.journals import begin_trial, journal_size, optuna_study
from tests.trials.trial_factories import base_ranks, evaluation


def test_a_rank_map_of_72_modules_costs_less_than_a_kilobyte(journal, folder):
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 10**5, 0.5, ranks=base_ranks()))
    before = journal_size(folder)
    for step in range(2, 12):
        result = evaluation(
            step, 123_456_789, 0.123456789012 + step / 100, seconds=1234.567890123,
            metrics={"accuracy": 0.81234567891234, "f1": 0.87654321987654}, ranks=base_ranks(seed=step),
        )  # fmt: skip
        journal.record(number, result)
    assert (journal_size(folder) - before) / 10 < 1000
    assert journal.trial(number).evaluations[5].ranks == base_ranks(seed=6)
    assert list(Journal.open(folder).trial(number).evaluations[5].ranks.items()) == list(base_ranks(seed=6).items())


def test_the_names_of_layers_are_stored_once(journal, folder):
    shapes = [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"b": 1, "a": 2}, {"a": 1}, {}, {"a": 3, "b": 4}]
    for number in range(2):
        begin_trial(journal)
        for step, ranks in enumerate(shapes, start=1):
            journal.record(number, evaluation(step, 10, 0.5, ranks=ranks))
    assert optuna_study(folder).user_attrs["layers"] == [["a", "b"], ["b", "a"], ["a"], []]
    for source in (journal, Journal.open(folder)):
        for trial in source.trials():
            assert [list(e.ranks.items()) for e in trial.evaluations] == [list(ranks.items()) for ranks in shapes]


def test_equal_rank_maps_are_in_memory_once(journal, folder):
    for number in range(2):
        begin_trial(journal)
        for step in (1, 2, 3):
            journal.record(number, evaluation(step, 10, 0.5, ranks=base_ranks(seed=step == 3)))
        journal.finish(number, "complete")  # from now on it is as it was read
    for source in (journal, Journal.open(folder)):
        first, second = ([id(e.ranks) for e in trial.evaluations] for trial in source.trials())
        assert first == second and first[0] == first[1] != first[2]


def test_slices_are_stored_with_their_evaluation(journal, folder):
    layers = {"layer.0.query": 0b101, "layer.1.query": 0b1}
    slices = (Slice(60, 0.7, {"accuracy": 0.7}, layers), Slice(20, 0.6, {"accuracy": 0.6}, dict.fromkeys(layers, 1)))
    curve = evaluation(10, 100, 0.8, slices=slices)
    number = begin_trial(journal)
    journal.record(number, curve)
    assert Journal.open(folder).trial(number).evaluations == (curve,)
    assert slices[0].ranks == {"layer.0.query": 2, "layer.1.query": 1}
    line = next(line for line in (folder / "journal.log").read_text().splitlines() if '"evaluation:10"' in line)
    assert '"kept":"3:DQ=="' in line and '"kept":"1:Aw=="' in line  # 001 101, masks of 3 bits; 1 1, of one bit


def nested_slices(draw, rank=8, count=8):
    """Slices of a rank map of 72 modules, each with half the components of the one before, drawn at random."""
    components = [(name, 1 << position) for name in base_ranks() for position in range(rank)]
    draw.shuffle(components)
    for halvings in range(1, count + 1):
        masks = dict.fromkeys(base_ranks(), 0)
        for name, bit in components[: len(components) >> halvings]:
            masks[name] |= bit
        metrics = {"accuracy": draw.random(), "f1": draw.random()}
        yield Slice(331_776 >> halvings, metrics["accuracy"], metrics, masks)


def test_eight_slices_of_72_modules_cost_less_than_two_kilobytes(journal, folder):
    number, draw = begin_trial(journal), random.Random(0)
    journal.record(number, evaluation(1, 10**5, 0.5, ranks=base_ranks()))
    curve = evaluation(2, 331_776, 0.123456789012, ranks=base_ranks(), slices=tuple(nested_slices(draw)))
    journal.record(number, curve)
    journal.record(number, replace(curve, step=3, slices=()))
    with_slices, without_slices = (folder / "journal.log").read_text().splitlines()[-2:]
    assert len(with_slices) - len(without_slices) < 2000
    assert Journal.open(folder).trial(number).evaluations[1] == curve


def test_masks_of_slices_share_their_layers_names(journal, folder):
    number = begin_trial(journal)
    slices = tuple(Slice(i, 0.5, {}, dict.fromkeys(base_ranks(), 2**i - 1)) for i in range(1, 9))
    journal.record(number, evaluation(10, 10**5, 0.5, ranks=base_ranks(), slices=slices))
    for source in (journal, Journal.open(folder)):
        (result,) = source.trial(number).evaluations
        assert len({id(slice_.component_masks._names) for slice_ in result.slices}) == 1
        assert (
            sum(
                sys.getsizeof(slice_.component_masks) + sys.getsizeof(slice_.component_masks._number)
                for slice_ in result.slices
            )
            < 2000
        )


@pytest.mark.parametrize("masks", [[], [0, 0], [1], [0b1011, 0, 1 << 70]])
def test_masks_are_packed_and_read(masks):
    names = tuple(f"layer.{i}" for i in range(len(masks)))
    packed = PackedMasks(names, PackedMasks.pack(masks))
    assert packed == dict(zip(names, masks, strict=True)) and list(packed) == list(names)
    assert "layer.9" not in packed
