"""Trials that are read from earlier searches, and how the sampler uses them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.searching.create import open_journal
from autorank.searching.sampling import warm_start
from autorank.searching.sampling.trial_planner import TrialPlanner
from autorank.searching.sampling.warm_start import earlier_trials, mid_ranks
from autorank.searching.sampling.warm_study import WarmStudy
from autorank.spec import MethodSpec, SearchSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from tests.searching.fake_runs import SPACE, bounds, search_spec
from tests.trials.trial_factories import evaluation

RATES = (1e-4, 1e-3, 3e-3, 9e-3)


def make_search(runs: Path, name: str, rates: tuple[float, ...] = RATES, **values: object) -> None:
    """Make a search of plain LoRA in which the third trial is the best and the last has failed."""
    with open_journal(search_spec(name, **values), runs / name, lambda: (64.0, 0.0)) as journal:
        for number, rate in enumerate(rates):
            journal.begin("lora", {"rank": 8 * (number + 1), "learning_rate": rate}, {})
            score = (0.5, 0.6, 0.9, 0.2)[number]
            journal.record(number, evaluation(10, 8 * (number + 1), score))
            journal.finish(number, "complete", sampler_values=(score,))
        journal.begin("lora", {"rank": 1, "learning_rate": 2e-3}, {})
        journal.finish(len(rates), "failed", "diverged")


def spec(**values: object) -> SearchSpec:
    return search_spec("new", **values)


def test_trials_are_ranked_within_their_search_and_the_front_comes_first(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    trials = earlier_trials("a", tmp_path, spec())
    assert [(trial.settings["learning_rate"], trial.first, trial.ranks) for trial in trials] == [
        (3e-3, True, (0.875,)), (1e-3, False, (0.625,)), (1e-4, False, (0.375,)), (9e-3, False, (0.125,)),
    ]  # fmt: skip


def test_settings_that_the_new_search_lacks_are_ignored(tmp_path: Path) -> None:
    """A trial with a value outside the new range is left out entirely."""
    make_search(tmp_path, "a")
    entry = MethodSpec(method="lora", space={"learning_rate": SPACE["learning_rate"] | {"high": 5e-3}})
    trials = earlier_trials("a", tmp_path, spec(methods=(entry,)))
    assert [trial.settings for trial in trials] == [{"learning_rate": rate} for rate in (3e-3, 1e-3, 1e-4)]


def test_a_named_search_without_usable_trials_is_an_error(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    make_search(tmp_path, "failed", rates=())
    rates = {"type": "float", "low": 0.1, "high": 0.2}
    for name, space in (("failed", SPACE), ("a", {"learning_rate": rates})):
        new = spec(methods=(MethodSpec(method="lora", space=space),))
        with pytest.raises(AutorankError, match=f"--warm-start {name}: none of its trials has a score and settings"):
            earlier_trials(name, tmp_path, new)
        assert not any(trial.search == name for trial in earlier_trials("auto", tmp_path, new))


def test_a_renamed_search_has_the_name_of_its_directory(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    (tmp_path / "a").rename(tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "copy")
    trials = earlier_trials("b", tmp_path, spec())
    assert {trial.search for trial in trials} == {"b"} and len(earlier_trials("copy,b", tmp_path, spec())) == len(
        trials
    )


def test_the_best_are_tried_first_and_the_others_are_spread_over_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_search(tmp_path, name)
    monkeypatch.setattr(warm_start, "SETTINGS_TRIED_FIRST", 2)
    monkeypatch.setattr(warm_start, "MAX_EARLIER", 5)
    trials = earlier_trials("a, b", tmp_path, spec())
    assert [trial.settings["learning_rate"] for trial in trials if trial.first] == [3e-3, 1e-3]  # each once
    assert [trial.ranks[0] for trial in trials if not trial.first] == [0.875, 0.375, 0.125]


def test_auto_takes_all_searches_that_fit(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    make_search(tmp_path, "other-model", model="some/model")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / JOURNAL).write_text("{\n")
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    make_search(tmp_path, "unknown-task")
    file = tmp_path / "unknown-task" / JOURNAL
    file.write_text(file.read_text().replace('"name":"demo"', '"name":"gone"'))
    assert {trial.search for trial in earlier_trials("auto", tmp_path, spec())} == {"a"}
    assert earlier_trials("auto", tmp_path, spec()) == earlier_trials("a,a", tmp_path, spec())
    with pytest.raises(AutorankError, match=r"--warm-start unknown-task: .*'gone'"):
        earlier_trials("unknown-task", tmp_path, spec())
    assert earlier_trials("auto", tmp_path / "nothing", spec()) == ()


def test_searches_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    make_search(tmp_path, "other-model", model="some/model")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / JOURNAL).write_text("{}\n")
    adalora = spec(methods=(MethodSpec(method="adalora", space=SPACE),))
    for names, new, message in (
        ("b", spec(), "b"),
        ("damaged", spec(), "damaged"),
        ("other-model", spec(), "its base model is some/model, that of this search is"),
        ("a", adalora, "it searched lora, this search has adalora. Name"),
        ("a", adalora.model_copy(update={"baseline": spec().methods[0]}), "this search has adalora. Name"),
        ("new", spec(), "is this search itself"),
        (" ,", spec(), "needs the names of earlier searches"),
    ):
        with pytest.raises(AutorankError, match=message):
            earlier_trials(names, tmp_path, new)


def test_earlier_settings_come_first_and_count_after_an_interruption(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    new = spec(warm_start=earlier_trials("a", tmp_path, spec()))
    with open_journal(new, tmp_path / "new", lambda: (64.0, 0.0)) as journal:
        planner = TrialPlanner(journal, bounds)
        for _ in range(6):
            planner.begin()
        settings = [(trial.settings["rank"], trial.settings["learning_rate"]) for trial in journal.trials()]
        assert settings[:2] == [(24, 3e-3), (8, 1e-3)]  # the best earlier setting, then the method's defaults
        journal.record(0, evaluation(10, 24, 0.7))
        planner.learn(journal.finish(0, "complete", sampler_values=(0.7,)))
        resumed = TrialPlanner(Journal.open(tmp_path / "new"), bounds)._studies["lora"].propose(6)
        proposed = planner.begin()
        assert proposed is not None and resumed.params == {name: proposed.settings[name] for name in SPACE}


def test_the_search_continues_with_the_trials_read_at_its_start(tmp_path: Path) -> None:
    make_search(tmp_path, "a")
    new = spec(warm_start=earlier_trials("a", tmp_path, spec()))
    open_journal(new, tmp_path / "new", lambda: (64.0, 0.0)).close()
    make_search(tmp_path, "b")
    later = spec(warm_start=earlier_trials("auto", tmp_path, spec()))
    assert later != new
    with open_journal(later, tmp_path / "new", lambda: (64.0, 0.0)) as journal:
        assert journal.spec == new


def test_mid_ranks_are_shares_of_smaller_and_half_of_equal_values() -> None:
    values = [0.3, 0.1, 0.3, 0.2, 0.3]
    expected = [(sum(v < x for v in values) + sum(v == x for v in values) / 2) / len(values) for x in values]
    assert mid_ranks(values) == pytest.approx(expected) and mid_ranks([1.0]) == [0.5]


def test_the_sampler_starts_where_the_best_earlier_trials_were(tmp_path: Path) -> None:
    """From the first proposal on, whatever the values of the earlier search were."""
    rates = {quality: [] for quality in ("good", "bad")}
    for seed in range(20):
        for quality, rate in (("good", 3e-3), ("bad", 2e-4)):
            earlier = [
                {"search": "a", "method": "lora", "settings": {"rank": 8, "learning_rate": rate * (1 + i / 50)},
                 "ranks": (1 - i / 20,)} for i in range(6)
            ] + [
                {"search": "a", "method": "lora", "settings": {"rank": 8, "learning_rate": 10 ** (-2 - i / 6)},
                 "ranks": (0.5 - i / 40,)} for i in range(12)
            ]  # fmt: skip
            new = spec(warm_start=earlier, seed=seed)
            study = WarmStudy(new, new.methods[0], new.warm_start, [])
            rates[quality].append(study.propose(0).params["learning_rate"])
    assert sorted(rates["good"])[10] > 3 * sorted(rates["bad"])[10]
