"""The Python API: its functions have the options of the commands; results of a search on disk."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import typer

import autorank
from autorank import api
from autorank.cli import app
from autorank.errors import AutorankError
from autorank.options.calls import ResumeCall, SearchCall, TrainCall
from autorank.options.groups import grouped
from autorank.trials.journal.journal import Journal
from tests.trials.trial_factories import evaluation, search

ONLY_COMMANDS = {"config", "dry_run", "recipe", "rows", "scale", "seeds", "name"}  # files, plans and papers' tables


@pytest.fixture
def finished_search(tmp_path, monkeypatch):
    """A search in `runs`: two points, the second one the baseline's too."""
    monkeypatch.chdir(tmp_path)
    with Journal.create(Path("runs", "one"), search(name="one"), (1000.0, 0.0)) as journal:
        for params, score in ((100, 0.7), (500, 0.8), (900, 0.75)):
            number = journal.begin("lora-drop", {"rank": params // 100, "learning_rate": 1e-3}, {}).number
            ranks = {f"encoder.layer.{i}.query": params // 100 for i in range(2)}
            journal.record(number, evaluation(10, params, score, ranks=ranks), last=True)
            journal.finish(number, "complete")
    return autorank.open_search("one")


def command(name):
    return {option.name: option for option in typer.main.get_command(app.app).commands[name].params}


@pytest.mark.parametrize(("name", "call"), [("search", SearchCall), ("resume", ResumeCall), ("train", TrainCall)])
def test_keywords_are_the_commands_options_with_their_defaults(name, call):
    options, keywords = command(name), inspect.signature(call).parameters
    assert set(options) - ONLY_COMMANDS == set(keywords) - ONLY_COMMANDS
    for option in keywords:
        assert options[option].default in (keywords[option].default, None), option


def test_signatures_for_completion_and_help():
    for function, call, omitted in (
        (autorank.search, SearchCall, set()), (autorank.train, TrainCall, set()),
        (autorank.Search.resume.__get__(object()), ResumeCall, {"runs"}),
    ):  # fmt: skip
        parameters = inspect.signature(function).parameters
        assert list(parameters) == [name for name in inspect.signature(call).parameters if name not in omitted]
        assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
        docstring = inspect.getdoc(function)
        assert all(f"\n    {name}: " in docstring for name in parameters) and "--" not in docstring.partition("Args")[2]
    assert "typer" not in str(inspect.signature(autorank.train))
    from autorank.searching.space import space  # the package is still one

    assert callable(autorank.search) and autorank.searching.space.space is space


def test_export_has_the_commands_options():
    parameters = set(inspect.signature(api.Search.export).parameters) - {"self"}
    assert set(command("export")) - {"name", "runs", "tracking_uri"} == parameters


def test_python_values_equal_command_line_texts(tmp_path):
    data = tmp_path / "pairs.csv"
    from_values = SearchCall(
        method=["lora-drop", "prilora"], data=data, text=["a", "b"], label="c",
        set={"dropout": 0.1, "targets": "query"},
        max_params=150_000, trials=12, time_budget=90,
    )  # fmt: skip
    from_texts = SearchCall(
        method="lora-drop,prilora", data=str(data), text="a,b", label="c", set=["dropout=0.1", "targets=query"],
        max_params="150k", trials="12", time_budget="90s",
    )  # fmt: skip
    assert from_values.spec() == from_texts.spec() and from_values.budget() == from_texts.budget()
    space = {"rank": {"type": "int", "low": 1, "high": 4}, "learning_rate": {"choices": [1e-3, 1e-2]}}
    assert SearchCall(method="lora", task="demo", space=space).spec().methods[0].space == space


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autorank.search(trails=3), "Did you mean 'trials'"),
        (lambda: autorank.search(task="demo"), "--method"),
        (lambda: autorank.search(method="lorra", task="demo"), "Did you mean 'lora'"),
        (lambda: autorank.search(method="lora", task="demo", trials=0), "'0' is not a number of trials"),
        (lambda: autorank.train(method=["lora", "vera"], task="demo"), "`train` takes one method"),
        (lambda: autorank.open_search("nothing"), "Search 'nothing' does not exist"),
        (
            lambda: autorank.search(method="lora", task="demo", workers_per_trial=0),
            "workers_per_trial=0: expected an integer of at least 1",
        ),
        (lambda: autorank.search(method="lora", task="demo", workers_per_trial=None), "workers_per_trial=None"),
        (lambda: autorank.search(concurrency=1.5), "concurrency=1.5: expected an integer of at least 1"),
        (lambda: autorank.search(gpus_per_trial=-0.5), "gpus_per_trial=-0.5: expected a number of at least 0"),
        (lambda: autorank.search(confirm_seeds=-1, max_retries=-2), "confirm_seeds=-1(.|\n)*max_retries=-2"),
        (lambda: autorank.search(method=3, model=5), "method=3: expected a string or a list of strings(.|\n)*model=5"),
        (lambda: autorank.train(data=5, epochs=True), "data=5: expected a string or a path(.|\n)*epochs=True"),
        (lambda: autorank.train(data=[{"text": "a"}] * 1000), r"data=\[{'text': 'a'}, .{,100}\.\.\.\]: expected"),
        (lambda: autorank.search(method="lora", task="demo", scheduler="none", grace=2), "--grace has no effect with"),
        (lambda: autorank.search(space=5), "space=5: expected a path or a string or a dict"),
        (lambda: autorank.search(sampler="cma"), "sampler='cma': expected one of 'tpe', 'nsga2', 'gp', 'random'"),
        (lambda: autorank.train(precision="fp8"), "precision='fp8': expected one of 'auto', 'fp32', 'bf16', 'fp16'"),
        (lambda: autorank.search(baseline="no"), "baseline='no': expected True or False"),
        (lambda: autorank.train(set="rank=4"), "set='rank=4': expected a list of strings or a dict"),
        (lambda: autorank.search(method="lora", task="demo", trials="²"), "'²' is not a number of trials"),
        (lambda: autorank.train(method="lora", task="demo", set={"learning_rate": float("inf")}), "a finite number"),
        (lambda: autorank.search(quiet=True, json=True), "cannot be combined"),
        (lambda: autorank.search(method="lora", task="demo", lanes="all"), "--lanes all: expected an integer"),
    ],
)
def test_invalid_calls_raise_autorank_errors(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AutorankError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [autorank.search, autorank.train])
def test_positional_arguments_are_refused(function):
    with pytest.raises(TypeError, match=r"\(\) takes keyword arguments only"):
        function("lora")


def test_lowest_values_are_valid_and_none_is_the_default():
    options = {"concurrency": None, "gpus_per_trial": 0.5, "workers_per_trial": np.int64(2), "max_retries": 0}
    assert grouped(SearchCall, "search", options).budget().gpus_per_trial == 0.5
    assert grouped(SearchCall, "search", {"lanes": np.int64(4)}).budget().lanes == 4


def test_compatible_types_are_converted():
    options = {"max_params": 1e5, "weight_decay": 0, "data": Path("a"), "method": ("lora", "vera"), "set": ["rank=4"]}
    assert grouped(SearchCall, "search", options).values()["objectives"].max_params == 100_000


def test_functions_that_use_search_can_be_pickled():
    import ray.cloudpickle

    def work():
        return autorank.search, autorank.searching.space.space

    restored = ray.cloudpickle.loads(ray.cloudpickle.dumps(work))
    assert restored() == (autorank.search, autorank.searching.space.space)
    assert ray.cloudpickle.loads(ray.cloudpickle.dumps(autorank.search)) is autorank.search


def test_a_tilde_is_the_home_directory(finished_search, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert autorank.open_search("one", "~/runs").folder == finished_search.folder
    assert finished_search.report("~/a.htm", "~/figures") == tmp_path / "a.htm" and (tmp_path / "figures").is_dir()
    finished_search.ranks(trial=0, to="~/ranks.json")
    assert (tmp_path / "ranks.json").is_file() and not (tmp_path / "~").exists()
    assert SearchCall(space="~/mine.yaml").space_source() == tmp_path / "mine.yaml"


def test_resume_uses_the_directory_of_the_search(finished_search, monkeypatch):
    calls = []
    monkeypatch.setattr(api, "run_search", lambda spec, call, **_: calls.append(call) or FakeOutcome("trials"))
    with pytest.raises(AutorankError, match=r"Unknown option of resume\(\) 'runs'"):
        finished_search.resume(runs="elsewhere")
    assert finished_search.resume(trials="+1", tracking_uri="sqlite:///other.db") is finished_search
    finished_search.resume(trials="+1")
    assert [(call.runs, call.tracking_uri) for call in calls] == [(Path("runs"), "sqlite:///other.db")] * 2
    monkeypatch.setattr(api, "run_search", lambda spec, call, **_: FakeOutcome("interrupted"))
    with pytest.raises(KeyboardInterrupt):
        finished_search.resume()


def test_a_renamed_search_can_be_read_but_not_continued(finished_search):
    """The search of the old name would be continued, or started again."""
    shutil.copytree(finished_search.folder, "runs/renamed")
    renamed = autorank.open_search("renamed", "runs")
    assert [point.key for point in renamed.front] == [point.key for point in finished_search.front]
    with pytest.raises(AutorankError, match="contains the search 'one': it was renamed or copied"):
        renamed.resume(trials="+1")


class FakeOutcome:
    """The attribute of an outcome that the Python API reads."""

    def __init__(self, ending):
        self.ending = ending


def test_search_is_a_function_whatever_is_imported_first():
    code = "import autorank.searching.space.space as space, inspect, autorank\nassert space.load\n"
    code += "assert 'method' in inspect.signature(autorank.search).parameters; "
    code += "assert 'front' in autorank.search.__doc__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_listed_before_their_first_use():
    code = "import autorank, sys; print(*dir(autorank)); assert 'autorank.api' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(autorank.__all__) <= set(result.stdout.split())
    assert {"search", "train", "open_search", "Search"} <= set(autorank.__all__)


def test_lower_packages_do_not_import_the_top():
    """Adds to the contracts of import-linter: also checks code in strings."""
    top = re.compile(r"autorank(\.| import )(api|cli|runner|options|doctor|recipes)\b")
    root = Path(autorank.__file__).parent
    lower = ("display", "searching", "export", "tracking", "reporting", "trials", "training", "tasks", "modeling")
    files = [file for name in lower for file in (root / name).rglob("*.py")]
    assert len(files) > len(lower)
    imports = {
        file: [line for line in file.read_text(encoding="utf-8").splitlines() if "import" in line] for file in files
    }
    assert [file for file, lines in imports.items() if any(map(top.search, lines))] == []


def test_the_front_is_a_list_and_a_frame(finished_search):
    assert [point.adapter_params for point in finished_search.front] == [100, 500] and len(finished_search.trials) == 3
    assert finished_search.hypervolume == pytest.approx((900 * 0.7 + 500 * 0.1) / 1000)
    frame = finished_search.to_frame()
    assert list(frame["adapter_params"]) == [100, 500] and list(frame["settings.rank"]) == [1, 5]
    assert finished_search.pick(max_params="0.4k").trial == 0 and finished_search.pick(min_score=0.75).trial == 1
    assert finished_search.pick() == finished_search.front.knee
    assert "0.8000" in repr(finished_search.front) and finished_search.front._repr_html_().count("<tr") == 3
    assert (
        repr(finished_search) == "<Search 'one': 3 trials, 2 points on the front>"
        and repr(finished_search.baseline) == "no points"
    )


def test_ranks_of_any_trial_report_and_figure(finished_search, tmp_path):
    ranks = finished_search.ranks(trial=2, to="ranks.json")
    assert ranks == {"encoder.layer.0.query": 9, "encoder.layer.1.query": 9} and ranks.point.score == 0.75
    assert (tmp_path / "ranks.json").is_file() and "query" in repr(ranks) and "<table>" in ranks._repr_html_()
    assert finished_search.ranks(trial=2, step=10).point.step == 10
    with pytest.raises(AutorankError, match="--step 10 needs --trial"):
        finished_search.ranks(step=10)
    assert finished_search.report() == tmp_path / "runs" / "one" / "report.html"
    finished_search.report(to="a.html", figures="figures")
    assert (tmp_path / "a.html").is_file() and (tmp_path / "figures" / "front.svg").is_file()
    assert len(finished_search.figure().axes) == 1
    with pytest.raises(AutorankError, match="Leave out"):
        finished_search.ranks(knee=True, trial=2)
    with pytest.raises(AutorankError, match="Leave out"):
        finished_search.ranks(knee=True, max_params=0)
    with pytest.raises(AutorankError, match="does not exist at"):
        finished_search.export(to="adapter")  # nothing was trained here
    with pytest.raises(AutorankError, match="Did you mean 'trials'"):
        finished_search.resume(trails="+1")


def test_train(tmp_path, capsys):
    options = {"method": "lora", "task": "demo", "steps": 4, "eval_every": 2, "set": {"rank": 1}}
    result = autorank.train(**options, max_train_examples=64, max_eval_examples=32, to=tmp_path / "adapter", quiet=True)
    assert [evaluation.step for evaluation in result.evaluations] == [2, 4] and result.best.settings["rank"] == 1
    assert (
        result.best.score == max(evaluation.score for evaluation in result.evaluations) and result.best.method == "lora"
    )
    assert result.adapter == tmp_path / "adapter" and (tmp_path / "adapter" / "adapter_config.json").is_file()
    assert capsys.readouterr().out == ""


def test_tables_are_valid_data():
    for data in (pd.DataFrame({"text": ["a"], "label": [1]}), datasets.Dataset.from_dict({"text": ["a"]})):
        assert grouped(TrainCall, "train", {"method": "lora", "data": data}).data is data
        assert grouped(SearchCall, "search", {"method": "lora", "data": data}).data is data


def test_numbers_of_numpy_are_stored_as_pythons():
    settings = {"rank": np.int64(8), "flag": np.bool_(True), "learning_rate": np.float32(0.5)}
    call = grouped(SearchCall, "search", {"confirm_seeds": np.int64(2), "grace": np.uint8(2), "set": settings})
    assert [type(value) for value in (call.confirm_seeds, call.grace)] == [int, int]
    assert call.overrides == ["rank=8", "flag=true", "learning_rate=0.5"]


def test_an_argument_may_be_given_by_name(tmp_path):
    with pytest.raises(AutorankError, match="missing"):
        autorank.shrink(adapter=tmp_path / "missing", energy=0.9)
    with pytest.raises(TypeError, match=r"shrink\(\) takes"):
        autorank.shrink(energy=0.9)
