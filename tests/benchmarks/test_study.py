"""benchmarks/study: gains of a front, tables, and the program on small hand-written searches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from optuna.distributions import FloatDistribution

from autorank import methods
from autorank.searching.confirm import seeds_of
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import search_folder
from autorank.trials.statistics.retrained_scores import Measured
from benchmarks.study import catalogue, gains, report
from benchmarks.study.calibration import next_seeds, shuffle_seeds
from benchmarks.study.gains import Retrained
from benchmarks.study.held_out import cost
from benchmarks.study.results import Result, common_front, read
from benchmarks.study.settings import REPEATED_BASELINE, TASKS, all_methods, search_name, search_spec
from tests.trials.trial_factories import evaluation, snapshot, trial


def entry(params: int, score: float, *seeds: float, number: int = 0) -> Retrained:
    """A point with its score in the search, and the scores of its new seeds."""
    point = snapshot([trial(number, (params, score))]).points[0]
    return Retrained(point, Measured(np.array(seeds or (score,)), (float(params),), 0))


BASELINE = [entry(100, 0.6, 0.5, 0.54), entry(400, 0.8, 0.7, 0.7)]
METHOD_FRONT = [entry(200, 0.75, 0.64, 0.68)]


def test_a_share_is_the_part_of_the_budgets_at_which_a_point_is_chosen():
    assert gains.shares([*BASELINE, *METHOD_FRONT], 0, 1000).tolist() == pytest.approx([0.1, 0.6, 0.2])
    worse = entry(300, 0.1)
    assert gains.shares([*BASELINE, worse], 0, 1000).tolist() == pytest.approx([0.3, 0.6, 0])
    assert gains.shares(BASELINE, 100, 1000, np.log10).tolist() == pytest.approx([np.log10(4), 1 - np.log10(4)])
    assert gains.shares(BASELINE, 400, 400).tolist() == [0, 1]


def test_hypervolume_that_is_added_is_an_area_under_the_new_scores():
    added_hypervolume = gains.added_hypervolume(METHOD_FRONT, BASELINE, 1000)
    assert added_hypervolume.value == pytest.approx(0.2 * (0.66 - 0.52))
    assert added_hypervolume.low < added_hypervolume.value < added_hypervolume.high
    assert gains.added_hypervolume(BASELINE, BASELINE, 1000).value == pytest.approx(
        0
    )  # the baseline's count among equal points


def test_a_choice_that_was_lucky_in_the_search_costs_hypervolume():
    assert gains.added_hypervolume([entry(200, 0.75, 0.4, 0.42)], BASELINE, 1000).value == pytest.approx(
        0.2 * (0.41 - 0.52)
    )


def test_the_mean_gain_begins_where_both_fronts_have_begun():
    mean = gains.mean_gain(METHOD_FRONT, BASELINE)
    assert mean.value == pytest.approx(0.66 - 0.52)  # from 200 to 400 parameters
    assert gains.mean_gain([entry(400, 0.9, 0.72, 0.74)], [BASELINE[1]]).value == pytest.approx(0.03)


def test_the_gain_of_a_point_is_over_the_choice_of_the_search():
    lucky = entry(150, 0.7, 0.4, 0.5)
    assert gains.gain(METHOD_FRONT[0], [BASELINE[0], lucky]).value == pytest.approx(0.66 - 0.45)
    assert gains.gain(entry(50, 0.5, 0.5), BASELINE) is None


def test_intervals_contain_the_true_difference_as_often_as_they_say():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        baseline_front, method_front = (
            [entry(size, score, *(score + 0.02 * rng.normal(size=3))) for size, score in points]
            for points in ([(100, 0.60), (200, 0.70), (400, 0.75)], [(150, 0.66), (300, 0.72), (500, 0.80)])
        )
        true = 0.5 * (0.80 - 0.75) + 0.1 * (0.72 - 0.70) + 0.05 * (0.66 - 0.60)
        added_hypervolume = gains.added_hypervolume(method_front, baseline_front, 1000)
        covered += added_hypervolume.low <= true <= added_hypervolume.high
    assert 170 <= covered <= 190


def test_without_deviations_there_is_no_interval():
    assert gains.added_hypervolume([entry(200, 0.75, 0.7)], [entry(100, 0.6, 0.5)], 1000) == gains.Difference(
        pytest.approx(0.16)
    )


def test_the_next_seed_is_in_its_interval_as_often_as_it_says():
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(60):
        deviations = np.where(rng.random(8) < 0.3, 0.2, 0.01)
        inside += next_seeds([0.7 + deviation * rng.normal(size=3) for deviation in deviations])
    assert len(inside) == 480
    assert 0.85 <= np.mean(inside) <= 0.95


def test_each_seed_after_the_second_is_predicted():
    steady, failing = np.array([0.8, 0.81, 0.805, 0.8]), np.array([0.8, 0.4])
    assert len(next_seeds([steady, failing, np.array([0.7])])) == 2
    assert next_seeds([failing, np.array([0.7])]) == next_seeds([]) == []


def test_seeds_in_another_order_stay_together_in_a_training():
    scores = np.arange(8.0)
    points = {(0, 20, 100): scores, (0, 20, 50): 10 + scores, (1, 20, 100): scores, (0, 40, 100): scores}
    first, cut_scores, *other_trainings = shuffle_seeds(points, np.random.default_rng(0))
    assert sorted(first) == scores.tolist() != first.tolist()
    assert cut_scores.tolist() == (10 + first).tolist()
    assert all(shuffled.tolist() != first.tolist() for shuffled in other_trainings)


def test_failures_of_points_without_a_third_seed_widen_the_intervals():
    failing = np.array([0.8, 0.805, 0.4])
    assert next_seeds([failing]) == [False]
    assert next_seeds([failing, *(np.array([0.8, 0.3 + 0.01 * number]) for number in range(10))]) == [True]


def test_every_method_has_its_own_search_with_targets_where_it_has_a_choice():
    assert {"increlora", "lora-drop", "prilora", "houlsby", "vera"} <= set(all_methods())
    assert not {"lora", "full", "bitfit"} & set(all_methods())
    specs = [search_spec("demo", method, None, None) for method in ("lora", REPEATED_BASELINE, *all_methods())]
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        (method_spec,) = spec.methods
        fields = methods.find(method_spec.method).Config.model_fields
        assert ("targets" in method_spec.space) == ("targets" in fields)
        assert "learning_rate" in method_spec.space
        assert spec.baseline is None
        assert spec.task.tune_split > 0
        assert spec.training.slices == "auto"
    assert [spec.seed for spec in specs[:3]] == [0, 1, 0]
    assert specs[1].methods == specs[0].methods


def test_data_are_one_directory_per_task(tmp_path):
    assert search_spec("mrpc", "lora", "base", tmp_path).task.data == str(tmp_path / "mrpc")
    assert search_spec("mrpc", "lora", "base", tmp_path).model == "base"
    assert set(TASKS) == {"mrpc", "qqp", "stsb", "cola", "sst2", "demo"}


@pytest.fixture
def runs(tmp_path):
    """Complete searches of lora and vera on the demo, and one of sora whose points have no new seeds."""
    for method, points in {"lora": BASELINE, "vera": METHOD_FRONT, "sora": METHOD_FRONT}.items():
        spec = search_spec("demo", method, None, None)
        with Journal.create(search_folder(tmp_path, spec.name), spec, (1000.0, 0.0)) as journal:
            for number, (point, sample) in enumerate(points):
                rate = 1e-3 * (number + 1)
                config = methods.configure(method, {"learning_rate": rate}).config
                sampled = {"learning_rate": (rate, FloatDistribution(1e-4, 1e-2))}
                journal.begin(method, config.model_dump(mode="json"), sampled)
                journal.record(number, evaluation(20, point.adapter_params, point.score))
                journal.finish(number, "complete")
                scores = {"lora": [*sample.scores, sample.mean], "vera": sample.scores, "sora": []}[method]
                for seed, score in zip(seeds_of(journal, number, 20), scores, strict=False):
                    values = {"score": float(score), "adapter_params": point.adapter_params}
                    journal.confirm(number, 20, point.adapter_params, seed, values)
    return tmp_path


def test_results_are_read_from_the_journals(runs):
    assert read(runs, "demo", "dora") is None
    lora = read(runs, "demo", "lora")
    assert (lora.ended, lora.steps, lora.max_params) == (2, 40, 1000.0)
    assert lora.is_complete(2)
    assert not lora.is_complete(3)
    assert not replace(lora, pending=1).is_complete(2)
    assert not read(runs, "demo", "sora").is_complete(1)
    assert lora.drop == pytest.approx(0.8 - 0.7)
    assert lora.expected_drop is None  # no predictions


def test_the_common_front_has_the_points_that_no_other_search_dominates(runs):
    results = [read(runs, "demo", method) for method in ("lora", "vera")]
    assert [(r.method, e.point.adapter_params) for r, e in common_front(results)] == [
        ("lora", 100), ("vera", 200), ("lora", 400),
    ]  # fmt: skip


def test_the_section_has_the_figures_the_command_and_the_incomplete_searches(runs, tmp_path):
    results = [read(runs, "demo", method) for method in ("lora", "vera", "sora")]
    section = report.render("demo", results, "python -m benchmarks.study", 1)
    assert section.startswith("### demo\n\n`python -m benchmarks.study`\n")
    assert "Not complete yet: sora." in section
    row = next(line for line in section.splitlines() if line.startswith("| `vera`"))
    assert row.startswith("| `vera` | +0.0280 (")
    assert "| 200 | `vera` | 0.7500 | 0.6600 ± 0.0283 (2) |" in section
    assert section.splitlines()[-1] == "|  | 2 of 2 (100%) |  | +0.0950 |"  # without predictions
    page = tmp_path / "results.md"
    mrpc_section = "<!-- study of mrpc -->\nkept\n<!-- end of mrpc -->"
    page.write_text(f"before\n{mrpc_section}\n<!-- study of demo -->\nold\n<!-- end of demo -->\nafter\n")
    report.write(page, "demo", section)
    assert page.read_text() == (
        f"before\n{mrpc_section}\n<!-- study of demo -->\n{section}\n<!-- end of demo -->\nafter\n"
    )
    with pytest.raises(ValueError, match=r"no lines <!-- study of sst2 --> .* Add them"):
        report.write(page, "sst2", section)


def test_the_catalogue_has_the_best_settings_of_each_method(runs, tmp_path):
    results = [read(runs, "demo", method) for method in ("lora", "vera")]
    file = tmp_path / "catalogue.yaml"
    catalogue.write(file, results)
    mrpc = {"task": "mrpc", "model": "base", "best": {}}
    file.write_text(yaml.safe_dump([mrpc, *yaml.safe_load(file.read_text())]))
    catalogue.write(file, [*results, replace(results[0], method=REPEATED_BASELINE)])
    other_task, search = yaml.safe_load(file.read_text())
    assert other_task == mrpc
    assert (search["task"], search["seen"]) == ("demo", 60 * 16)
    assert list(search["best"]) == ["lora", "vera"]
    assert search["best"]["lora"] == [{"learning_rate": 2e-3}]  # trial 1 scores 0.8


def catalogue_settings(*fronts):
    """The catalogue's settings of trials with these points, which adapt layers in turn."""
    trials = [
        replace(trial(number, *points), sampled={"targets": "ab"[number % 2], "rank": number})
        for number, points in enumerate(fronts)
    ]
    return [settings["rank"] for settings in catalogue.best_settings(trials)]


def test_the_best_setting_of_a_search_has_the_largest_front_of_those_with_about_the_best_score():
    large, small, poor = [(1000, 0.80)], [(200, 0.77)], [(10, 0.6)]
    assert catalogue_settings(poor, poor, large, small) == [3, 2]  # one for each choice of layers
    assert catalogue_settings(poor, large, poor, small) == [3]


def test_a_trial_that_learned_little_is_not_the_best() -> None:
    majority, little, learned = [(10, 0.68)], [(20, 0.71)], [(100, 0.74)]
    assert catalogue_settings(majority, little, learned) == [2]


def test_the_defaults_are_the_best_unless_another_trial_is_clearly_better():
    defaults, little_better, much_better = [(200, 0.77)], [(180, 0.79)], [(50, 0.79)]
    largest, poor = [(1000, 0.8)], [(10, 0.6)]
    assert catalogue_settings(defaults, largest, little_better, poor) == [0, 1]
    assert catalogue_settings(defaults, largest, much_better, poor) == [2, 1]


def test_without_the_baseline_there_are_no_differences(runs):
    results = [replace(read(runs, "demo", "sora"), method="lora"), read(runs, "demo", "vera")]
    section = report.render("demo", results, "command", 1)
    assert "| method |" not in section
    assert isinstance(results[0], Result)
    assert search_name("demo", REPEATED_BASELINE) == "demo-lora-again"


def test_the_cost_until_a_hypervolume_is_in_complete_trials():
    trials = [trial(0, (100, 0.4)), trial(1, (100, 0.6), (50, 0.8)), trial(2, (100, 0.7))]
    steps = [record.step for record in trials]
    assert cost(trials, 200.0, 0.9, 10) is None
    assert cost(trials, 200.0, 0.2, 10) == steps[0] / 10  # 0.4 * 100 / 200
    assert cost(trials, 200.0, 0.5, 10) == (steps[0] + steps[1]) / 10
