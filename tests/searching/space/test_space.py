"""Search spaces: reading YAML, and reporting all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from autorank import method, methods
from autorank.errors import AutorankError
from autorank.modeling import target_modules
from autorank.searching.space import ranges
from autorank.searching.space.space import Space, builtin, check, load, load_all
from autorank.searching.space.yaml_values import parse_settings
from autorank.spec import MethodSpec
from autorank.trials.distributions import distributions

RATE = "learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}\n"


def space_file(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["lora", "lora-drop"])
def test_built_in_spaces_are_valid_and_contain_the_default_learning_rate(name):
    space = load(name)
    assert ranges.contains(space.ranges["learning_rate"], methods.find(name).Config().learning_rate)
    assert "source" not in space.ranges["rank"]  # searches are compared by their ranges, not by the sources of these


def test_a_file_with_ranges_choices_and_values(tmp_path):
    entries = "rank: {type: int, low: 2, high: 9, step: 3}\ndropout: {choices: [0, 0.1]}\nalpha: 8\n"
    space = load("lora", space_file(tmp_path, RATE + entries))
    assert space.ranges["rank"] == {"type": "int", "low": 2, "high": 9, "step": 3}
    assert space.ranges["learning_rate"] == {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
    assert space.fixed == {"alpha": 8}


def test_set_fixes_a_setting_even_the_learning_rate():
    space = load("lora", overrides=["learning_rate=5e-4", "targets=query,value,key"])
    assert space.fixed["learning_rate"] == 5e-4
    assert space.fixed["targets"] == "query,value,key"
    assert "learning_rate" not in space.ranges


def test_all_mistakes_are_reported_together(tmp_path):
    text = """
    rank: {type: float, low: 1, high: 8}
    thresold: {type: float, low: 0.1, high: 0.2}
    threshold: {type: float, low: 0.9, high: 0.2}
    dropout: {type: float, low: 0, high: 0.5, log: true}
    alpha: {type: flaot, low: 1, high: 2}
    targets: {choices: [query, query]}
    start: {choices: [fresh, wamr]}
    probe_epochs: {type: int, low: 1.5, hihg: 3}
    ablation: 7
    """
    with pytest.raises(AutorankError) as caught:
        load("lora-drop", space_file(tmp_path, text), ["probe_ratio=7", "oops"])
    message = str(caught.value)
    for part in (
        "--set oops: write --set key=value",
        "learning_rate: must be a range",
        "--set learning_rate=VALUE",
        "rank: Input should be a valid integer",
        "did you mean 'threshold'?",
        "threshold: low 0.9 is above high 0.2",
        "dropout: log needs low above 0 (got 0)",
        "alpha: has type 'flaot'",
        "targets: choices must differ",
        "start: Input should be 'fresh' or 'warm' (got 'wamr')",
        "probe_epochs: unknown key 'hihg' (did you mean 'high'?)",
        "probe_epochs: high is missing",
        "probe_epochs: low must be an integer (got 1.5)",
        "ablation: Input should be 'none'",
        "probe_ratio: Input should be less than or equal to 1 (got 7)",
    ):
        assert part in message
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{type: int, low: 1, high: 16, log: yes please}", "log must be true or false"),
        ("{type: int, low: 1, high: 16, log: true, step: 2}", "log and step do not go together"),
        ("{type: int, low: 1, high: 16, step: 0}", "step must be above 0"),
        ("{type: int, low: true, high: 16}", "low must be an integer (got True)"),
        ("{type: int, low: 0, high: 16}", "greater than or equal to 1 (got 0)"),
        ("{type: int, choices: [1, 2]}", "choices and type do not go together"),
        ("{choices: []}", "choices must be a list of values"),
        ("{choices: 4}", "choices must be a list of values"),
        ("{choices: [[1], [2]]}", "choices must be plain values"),
        ("{low: 1, high: 2}", "has no type"),
        ("[1, 2]", "should be a valid integer"),
    ],
)
def test_a_malformed_range_is_explained(tmp_path, entry, problem):
    with pytest.raises(AutorankError) as caught:
        load("lora", space_file(tmp_path, f"{RATE}rank: {entry}\n"))
    assert problem in str(caught.value)


@pytest.mark.parametrize("bound", [".inf", ".nan", "one"])
def test_bounds_are_finite_numbers(tmp_path, bound):
    with pytest.raises(AutorankError, match="high must be a number"):
        load("lora", space_file(tmp_path, f"learning_rate: {{type: float, low: 0.1, high: {bound}}}"))


@pytest.mark.parametrize(("text", "problem"), [("a: [", "is not YAML"), ("- rank", "must map"), ("", "must map")])
def test_a_file_that_is_not_a_space(tmp_path, text, problem):
    with pytest.raises(AutorankError, match=problem):
        load("lora", space_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rank: {type: int, low: 1, high: 8}\nrank: 4", r"the key 'rank' is listed twice\n.*line 2"),
        ("rank: {type: int, low: 1, low: 8}", "the key 'low' is listed twice"),
        ("rank: !!int x", "is not YAML: invalid literal"),
        (f"rank: {'1' * 5000}", "is not YAML: Exceeds the limit"),
        ("a: " + "[" * 5000, "is not YAML: a value contains itself, or is nested too deeply"),
    ],
)
def test_errors_in_yaml_are_reported(tmp_path, text, problem):
    with pytest.raises(AutorankError, match=problem):
        load("lora", space_file(tmp_path, text))


def test_merged_keys_may_be_overridden(tmp_path):
    text = "rank: &range {type: int, low: 1, high: 8}\nalpha: {<<: *range, high: 9}\n"
    assert load("lora", space_file(tmp_path, RATE + text)).ranges["alpha"] == {"type": "int", "low": 1, "high": 9}


def test_dates_and_broken_values_are_texts():
    assert parse_settings(["targets=2024-13-45"]) == {"targets": "2024-13-45"}
    assert parse_settings(["targets=2024-01-02"]) == {"targets": "2024-01-02"}
    assert parse_settings(["targets=!!int x"]) == {"targets": "!!int x"}


def test_a_space_by_method_may_name_files(tmp_path):
    file = space_file(tmp_path, RATE + "rank: {type: int, low: 2, high: 9}\n")
    for source in (str(file), file, {"rank": {"type": "int", "low": 2, "high": 9}, "learning_rate": 1e-3}):
        spaces = load_all(["lora", "lora-drop"], {"lora": source}, ["learning_rate=1e-3"])
        assert spaces["lora"].ranges["rank"]["high"] == 9 and spaces["lora-drop"] == load(
            "lora-drop", overrides=["learning_rate=1e-3"]
        )
    with pytest.raises(AutorankError, match=r"The space of lora must map settings to ranges.* \(got 5\)"):
        load_all(["lora"], {"lora": 5})


def test_a_missing_file(tmp_path):
    with pytest.raises(AutorankError, match="No such file"):
        load("lora", tmp_path / "none.yaml")


def test_an_unknown_method():
    with pytest.raises(AutorankError, match="Did you mean 'lora-drop'"):
        load("lora-dorp")


def test_a_space_without_ranges(tmp_path):
    with pytest.raises(AutorankError, match="nothing is left to search"):
        load("lora", space_file(tmp_path, RATE), ["learning_rate=1e-3"])


def test_a_fixed_learning_rate_in_a_file_is_refused(tmp_path):
    with pytest.raises(AutorankError, match="learning_rate: must be a range"):
        load("lora", space_file(tmp_path, "learning_rate: 1e-3\nrank: {type: int, low: 1, high: 4}"))


def test_the_space_of_a_third_partys_method_is_beside_its_module(tmp_path, monkeypatch):
    (tmp_path / "novel.py").write_text("class Novel: ...")
    (tmp_path / "novel.yaml").write_text(RATE)
    monkeypatch.syspath_prepend(tmp_path)
    import novel

    monkeypatch.setattr("autorank.searching.space.space.find", lambda name: novel.Novel)
    assert builtin("novel") == RATE
    (tmp_path / "novel.yaml").unlink()
    with pytest.raises(AutorankError, match="has no search space"):
        builtin("novel")


def test_values_refused_only_together(monkeypatch):
    from pydantic import model_validator

    class Config(method.MethodConfig):
        rank: int = 1
        budget: int = 8

        @model_validator(mode="after")
        def _room(self):
            if self.budget < self.rank:
                raise ValueError("budget is below rank")
            return self

    class Method:
        pass

    Method.Config = Config
    monkeypatch.setattr("autorank.searching.space.space.find", lambda name: Method)
    space = Space({"rank": {"type": "int", "low": 1, "high": 8}}, {"budget": 4})
    assert check("m", space) == ["budget is below rank (at rank=8)"]


def test_values_refused_in_pairs_are_found_without_all_corners(monkeypatch):
    """16 ranges have 65,536 corners; a pair is refused whether the other settings are at their first or last ends."""
    from pydantic import create_model, model_validator

    calls = []

    class Base(method.MethodConfig):
        @model_validator(mode="after")
        def _apart(self):
            calls.append(self)
            if self.s3 == 0.0 and self.s11 == 1.0:
                raise ValueError("s11 needs s3")
            return self

    class Method:
        Config = create_model("Config", __base__=Base, **{f"s{i}": (float, 0.5) for i in range(16)})

    monkeypatch.setattr("autorank.searching.space.space.find", lambda name: Method)
    space = Space({f"s{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(16)}, {})
    (problem,) = check("m", space)
    assert problem.startswith("s11 needs s3 (at s0=0.0,") and "s3=0.0" in problem and "s11=1.0" in problem
    assert len(calls) < 2_000


@pytest.mark.parametrize("name", ["lora", "lora-drop", "dora", "pissa", "rslora", "eva", "gora"])
def test_methods_that_are_compared_with_lora_search_the_layers_too(name):
    choices = load(name).ranges["targets"]["choices"]
    assert choices == ["attention-qv", "all-linear"]
    assert methods.find(name).Config().targets in choices  # first trials begin with it
    assert all(choice in target_modules.SETS or choice == target_modules.ALL_LINEAR for choice in choices)


def test_suggested_values_lie_in_their_ranges_and_reach_their_ends():
    entries = {
        "rank": {"type": "int", "low": 2, "high": 9, "step": 3},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "start": {"choices": ["fresh", "warm"]},
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = distributions(MethodSpec(method="lora", space=entries))
    suggestions = [study.ask(space).params for _ in range(60)]
    assert {values["rank"] for values in suggestions} == {2, 5, 8}
    assert {values["start"] for values in suggestions} == {"fresh", "warm"}
    assert all(ranges.contains(entries[name], value) for values in suggestions for name, value in values.items())
    assert sum(values["learning_rate"] < 1e-3 for values in suggestions) == pytest.approx(30, abs=12)  # log


@pytest.mark.parametrize(
    ("entry", "value", "inside"),
    [
        ({"type": "int", "low": 1, "high": 16}, 8, True),
        ({"type": "int", "low": 1, "high": 16}, 17, False),
        ({"type": "int", "low": 1, "high": 16}, 2.5, False),
        ({"type": "int", "low": 2, "high": 9, "step": 3}, 5, True),
        ({"type": "int", "low": 2, "high": 9, "step": 3}, 6, False),
        ({"type": "float", "low": 0.0, "high": 0.3, "step": 0.1}, 0.3, True),
        ({"type": "float", "low": 0.0, "high": 1.0}, None, False),
        ({"choices": ["a", None]}, None, True),
    ],
)
def test_contains(entry, value, inside):
    assert ranges.contains(entry, value) is inside


def test_parse_settings():
    assert parse_settings(["rank=4", "learning_rate=5e-5", "start=warm", "targets=query,value"]) == {
        "rank": 4,
        "learning_rate": 5e-5,
        "start": "warm",
        "targets": "query,value",
    }
    assert parse_settings(["schedule=[]", "other=[1, 2]"]) == {"schedule": [], "other": [1, 2]}
    for value in ("{low: 1, high: 2}", "[[1, 2]]"):
        with pytest.raises(AutorankError, match="rank: --set fixes one value"):
            parse_settings([f"rank={value}"])


def test_overrides_apply_to_the_methods_that_have_the_setting():
    spaces = load_all(["lora-drop", "lora"], overrides=["rank=4", "threshold=0.8"])
    assert {name: space.fixed["rank"] for name, space in spaces.items()} == {"lora-drop": 4, "lora": 4}
    assert spaces["lora-drop"].fixed["threshold"] == 0.8 and "threshold" not in spaces["lora"].fixed
    with pytest.raises(AutorankError, match=r"none of lora-drop, lora has a setting 'rnk'"):
        load_all(["lora-drop", "lora"], overrides=["rnk=4"])
    with pytest.raises(AutorankError, match="for one method, but the search has 2"):
        load_all(["lora-drop", "lora"], file=Path("mine.yaml"))
    with pytest.raises(AutorankError, match="names no method"):
        load_all([])
