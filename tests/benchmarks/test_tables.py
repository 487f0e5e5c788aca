"""Tables of curves: written from searches, read by the simulator, and in Syne Tune's format."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from autorank.spec import TaskSpec, TrainingSpec
from autorank.trials.journal.journal import Journal
from benchmarks.simulation.blackbox import OBJECTIVES, check, convert, domain
from benchmarks.simulation.curves import Curves, read_lines
from benchmarks.simulation.export_curves import rows, write
from benchmarks.study.calibration import seeds_of_searches
from tests.trials.trial_factories import evaluation, search, sliced


@pytest.fixture
def table(tmp_path):
    """A search of LoRA with three trials (the second was stopped early, the third has the settings of the first)."""
    spec = search("lora", task=TaskSpec(name="mrpc"), training=TrainingSpec(batch_size=10))
    with Journal.create(tmp_path / "runs" / "first", spec, (1000.0, 0.0)) as journal:
        journal.store_data_description({"digest": "d", "examples": {"train": 500, "validation": 30, "other": 60}})
        for number, (rank, steps) in enumerate([(4, 2), (8, 1), (4, 2)]):
            sampled = {"rank": (rank, IntDistribution(1, 16)), "learning_rate": (1e-3, FloatDistribution(2e-4, 5e-3))}
            journal.begin("lora", {name: value for name, (value, _) in sampled.items()}, sampled)
            journal.record(number, evaluation(10, 100 * rank, 0.5))
            if steps == 2:
                journal.record(number, sliced(20, 100 * rank, 0.6 + rank / 100, (50, 0.55)))
            journal.finish(number, "complete" if steps == 2 else "pruned")
        journal.confirm(0, 20, 400, 1000, {"score": 0.625, "adapter_params": 400})
        journal.confirm(0, 20, 400, 1001, {"failed": "diverged"})
        lines = list(rows(journal))
    file = tmp_path / "mrpc.jsonl.gz"
    write(file, lines)
    return file


def test_a_search_becomes_lines_of_settings_curves_and_seeds(table):
    first, second, _ = read_lines(table)
    assert first == {
        "search": "first", "method": "lora", "drawn": {"rank": 4, "learning_rate": 1e-3}, "state": "complete",
        "seconds": 20.0, "evaluation_cost": 3.0, "curve": [[10, 0.5, 400, []], [20, 0.64, 400, [[50, 0.55]]]],
        "seeds": [[1000, 20, 400, 0.625]],
    }  # fmt: skip
    assert second["curve"] == [[10, 0.5, 800, []]]
    assert second["state"] == "pruned"


def test_the_seeds_of_each_point_are_read_from_a_table(table, tmp_path):
    lines = read_lines(table)
    lines[1]["seeds"] = [[1001, 10, 800, 0.6], [1000, 10, 800, 0.5], [1000, 10, 400, 0.4]]
    write(tmp_path / "more.jsonl", lines)
    (shared,), own = seeds_of_searches(tmp_path / "more.jsonl")
    expected = {(0, 20, 400): [0.625], (1, 10, 400): [0.4], (1, 10, 800): [0.6, 0.5]}
    assert {key: scores.tolist() for key, scores in shared.items()} == expected and own == []
    lines[0]["seeds"], lines[1]["seeds"] = [[1020, 20, 400, 0.625]], [[2010, 10, 800, 0.6]]
    write(tmp_path / "own.jsonl", lines)
    shared_seeds, (own_seeds,) = seeds_of_searches(tmp_path / "own.jsonl")
    assert shared_seeds == [] and set(own_seeds) == {(0, 20, 400), (1, 10, 800)}


def test_the_same_lines_give_the_same_bytes(table, tmp_path):
    lines = read_lines(table)
    for name in ("a.jsonl.gz", "b.jsonl.gz", "plain.jsonl"):
        write(tmp_path / name, lines)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert read_lines(tmp_path / "plain.jsonl") == lines


def test_simulator_reads_an_exported_table(table):
    curves = Curves.read(table, "lora")
    assert curves.evaluation_cost == 3.0
    assert set(curves.entry.space) == {"rank", "learning_rate"}
    run = curves.run({"rank": 4, "learning_rate": 1e-3})
    assert [(e.step, e.score, [s.adapter_params for s in e.slices]) for e in run] == [(10, 0.5, []), (20, 0.64, [50])]


@pytest.mark.parametrize("method", ["lora", "increlora", "houlsby"])
def test_the_simulator_reads_the_study(method):
    """Tables may have settings that the built-in space of the method does not search."""
    file = Path(__file__).parents[2] / "benchmarks" / "curves" / "study_stsb.jsonl.gz"
    curves = Curves.read(file, method)
    assert len(curves.curves) == (16 if method == "lora" else 8)  # LoRA was searched twice
    assert curves.total_steps == 150
    if method == "increlora":
        assert curves.entry.space["targets"] == {"choices": ["all-linear", "attention-qv"]}
        assert "targets" not in curves.entry.settings


def test_a_blackbox_has_the_arrays_that_syne_tune_reads(table, tmp_path):
    to = tmp_path / "blackbox"
    convert(table, "lora", "mrpc", to)
    frame = pd.read_parquet(to / "hyperparameters.parquet")
    assert frame.to_dict("list") == {"rank": [4, 8], "learning_rate": [1e-3, 1e-3]}  # settings once each
    values = np.load(to / "objectives_evaluations.npy")  # tasks x settings x seeds x fidelities x objectives
    assert values.shape == (1, 2, 1, 2, 3)
    assert values[0, 0, 0].tolist() == pytest.approx(np.array([[0.5, 400, 13], [0.36, 400, 26]]))
    assert np.isnan(values[0, 1, 0, 1]).all()
    assert np.load(to / "fidelities_values.npy").tolist() == [1, 2]
    metadata = json.loads((to / "metadata.json").read_text())
    assert metadata == {"objectives_names": OBJECTIVES, "task_names": ["mrpc"], "method": "lora"}
    space = json.loads((to / "configspace.json").read_text())
    assert list(space) == list(frame.columns)
    assert space["rank"]["sampler_cls"] == "LogUniform"


def test_ranges_are_domains():
    assert domain({"type": "float", "low": 0.1, "high": 1.0}) == {
        "domain_cls": "Float", "domain_kwargs": {"lower": 0.1, "upper": 1.0}, "sampler_cls": "Uniform",
        "sampler_kwargs": {},
    }  # fmt: skip
    assert domain({"type": "int", "low": 1, "high": 8, "log": True})["sampler_kwargs"] == {"base": math.e}
    assert domain({"choices": ["a", "b"]})["domain_kwargs"] == {"categories": ["a", "b"]}


def test_syne_tune_loads_it_and_runs_on_it(table, tmp_path):
    pytest.importorskip("syne_tune")
    convert(table, "lora", "mrpc", tmp_path / "blackbox")
    summary = check(tmp_path / "blackbox", "mrpc")
    assert "fidelities: 2" in summary
    assert "least error 0.3600" in summary  # 1 - 0.64
