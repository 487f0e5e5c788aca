"""Options from a file: valid and invalid files, and the spec of a search as a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from autorank.cli import app, search
from autorank.errors import AutorankError
from autorank.options.config_file import as_yaml
from autorank.spec import SearchSpec
from autorank.trials.journal.journal import Journal

SPACE = {"rank": {"type": "int", "low": 1, "high": 8, "log": True}, "learning_rate": {"choices": [1e-3, 5e-5]}}


@pytest.fixture
def parse_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns a function that parses a command line and returns its spec and resources, without running it."""
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []
    monkeypatch.setattr(search, "_run", lambda spec, use: calls.append((spec, use)))

    def parse(*words: object) -> tuple[SearchSpec, Any]:
        app.app([str(word) for word in words], standalone_mode=False)
        return calls.pop()

    return parse


def write_options(folder: Path, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    return folder / "options.yaml"


def test_a_file_gives_the_same_options_as_the_command_line(parse_command: Any, tmp_path: Path) -> None:
    config = write_options(
        tmp_path / "there", method=["lora-drop", "prilora"], task="demo", trials=12, epochs=3, tune_split=0.1,
        max_params="150k", baseline=False, set={"targets": "query,value"}, scheduler="none", weight_decay=0.01,
    )  # fmt: skip
    words = (
        "--method", "lora-drop,prilora", "--task", "demo", "--trials", 12, "--epochs", 3, "--tune-split", 0.1,
        "--max-params", "150k", "--no-baseline", "--set", "targets=query,value", "--scheduler", "none",
        "--weight-decay", 0.01,
    )  # fmt: skip
    spec, use = parse_command("search", "--config", config)
    expected, expected_use = parse_command("search", *words)
    assert spec == expected and use.budget() == expected_use.budget()
    assert spec.halving is None and spec.baseline is None and spec.training.weight_decay == 0.01
    changed, use = parse_command(
        "search", "--config", config, "--epochs", 5, "--trials", "+4", "--baseline", "--set", "rank=2"
    )
    assert changed.training.epochs == 5 and use.trials == "+4" and changed.baseline is not None
    assert changed.methods[0].settings["rank"] == 2 and changed.methods[0].settings["targets"] == "query,value"


def test_paths_are_relative_to_the_file(parse_command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    (folder / "my-model").mkdir(parents=True)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    config = write_options(
        folder, method="lora", data="pairs.jsonl", text=["a", "b"], label="c", model="my-model", runs="out",
        space="space.yaml", set={"dropout": 0.1},
    )  # fmt: skip
    spec, use = parse_command("search", "--config", config)
    assert spec.task.data == str(folder / "pairs.jsonl") and spec.task.text == ("a", "b") and spec.task.name == "pairs"
    assert spec.model == str(folder / "my-model") and use.runs == folder / "out"
    assert spec.methods[0].space == SPACE and spec.methods[0].settings == {"dropout": 0.1}
    write_options(folder, method="lora", task="demo", space={**SPACE, "retrain": "ranks.json"}, model="org/name")
    spec, _ = parse_command("search", "--config", "there/options.yaml")
    assert spec.methods[0].settings["retrain"] == str(folder / "ranks.json") and spec.model == "org/name"


def test_files_of_spaces_and_of_the_metric_are_relative_to_the_file(parse_command: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (tmp_path / "there" / "mm.py").write_text("def f(a, b): return 1.0\nf.higher_is_better = True\n")
    options = {"method": "lora", "task": "demo", "space": {"lora": "space.yaml"}, "metric": "mm.py:f"}
    config = write_options(tmp_path / "there", **options)
    spec, _ = parse_command("search", "--config", config.relative_to(tmp_path))
    assert spec.methods[0].space == SPACE and spec.task.metric == f"{tmp_path}/there/mm.py:f"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: 5", r"space: expected a file, or ranges .*\(got 5\)"),
        ("space: [1]", "space: expected a file"),
        ("space: {lora: 5}", r"The space of lora must map settings to ranges.*\(got 5\)"),
        ("task: demo\ntask: mrpc", r"the key 'task' is listed twice\n.*line 3"),
        ("set: {rank: 4, rank: 5}", "the key 'rank' is listed twice"),
        ("text: &a [*a]", "a value contains itself"),
        ("set: &a {rank: *a}", "recursive"),
        ("set: {rank: !!int x}", "is not YAML: invalid literal"),
    ],
)
def test_errors_in_a_file_are_reported(text: str, message: str, parse_command: Any, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text(f"method: lora\n{text}\n")
    with pytest.raises(AutorankError, match=message):
        parse_command("search", "--config", "options.yaml")


def test_columns_with_commas(parse_command: Any, tmp_path: Path) -> None:
    config = write_options(tmp_path, method="lora", data="d.csv", text=["a,b", "c"], label=["x", "y,z"], name="s")
    spec, _ = parse_command("search", "--config", config)
    assert spec.task.text == ("a,b", "c") and spec.task.label_columns == ("x", "y,z")
    shown = as_yaml(spec, {})
    assert yaml.safe_load(shown)["text"] == ["a,b", "c"]
    (tmp_path / "shown.yaml").write_text(shown)
    assert parse_command("search", "--config", "shown.yaml")[0] == spec
    words = ("--text", r"a\,b,c", "--label", r"x,y\,z")
    assert parse_command("search", "--method", "lora", "--data", "d.csv", "--name", "s", *words)[0] == spec
    config = write_options(tmp_path, method="lora", data="d.csv", prompt=["p,q"], completion="a,b", name="s")
    spec, _ = parse_command("search", "--config", config)
    (tmp_path / "shown.yaml").write_text(as_yaml(spec, {}))
    assert spec.task.prompt == ("p,q",) and parse_command("search", "--config", "shown.yaml")[0] == spec


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trials: +20", ("--trials", "+20")),
        ("seed: 010", ("--seed", "010")),
        ("epochs: 0_3", ("--epochs", "0_3")),
        ("name: 2024-01-02", ("--name", "2024-01-02")),
        ("name: 1e3", ("--name", "1e3")),
        ("name: yes", ("--name", "yes")),
        ("baseline: off", ("--no-baseline",)),
        ("baseline: yes", ("--baseline",)),
        ("max_params: 1_000", ("--max-params", "1_000")),
        ("max_params: 1e5", ("--max-params", "1e5")),
        ("min_score: .5", ("--min-score", ".5")),
        ("weight_decay: 1e-2", ("--weight-decay", "1e-2")),
        ("time_budget: 90", ("--time-budget", "90")),
        ("metric: ~", ()),
    ],
)
def test_a_value_in_a_file_means_what_it_means_on_the_command_line(
    line: str, words: tuple[str, ...], parse_command: Any, tmp_path: Path
) -> None:
    (tmp_path / "options.yaml").write_text(f"method: lora\ntask: demo\n{line}\n")
    from_file, file_call = parse_command("search", "--config", "options.yaml")
    from_words, word_call = parse_command("search", "--method", "lora", "--task", "demo", *words)
    assert from_file == from_words and file_call.budget() == word_call.budget()


@pytest.mark.parametrize("line", ["time_budget: 1:30", "trials: 1:30", "seed: 0o10", "epochs: true", "chat: 1:30"])
def test_a_file_is_checked_like_the_command_line(line: str, parse_command: Any, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text(f"method: lora\ntask: demo\n{line}\n")
    with pytest.raises(AutorankError, match=line.split(":")[0].replace("_", ".")):
        parse_command("search", "--config", "options.yaml")[1].budget()


def test_merge_keys_and_aliases_work_in_a_file(parse_command: Any, tmp_path: Path) -> None:
    text = "<<: &shared {task: demo, trials: +3}\nmethod: [lora, *name]\n".replace("*name", "prilora")
    (tmp_path / "options.yaml").write_text(text)
    spec, call = parse_command("search", "--config", "options.yaml")
    assert spec.task.name == "demo" and call.trials == "+3" and len(spec.methods) == 2


def test_all_errors_in_one_message(parse_command: Any, tmp_path: Path) -> None:
    config = write_options(
        tmp_path, mehtod="lora", epochs=2.5, grace=0, trials={"a": 1}, set=["rank=4"], baseline="maybe",
        batch_size=True, max_params=[1, 2], max_memory="much", time_budget="soon",
    )  # fmt: skip
    with pytest.raises(AutorankError) as error:
        parse_command("search", "--config", config)
    message = str(error.value)
    assert "did you mean 'method'?" in message and "set: write set: {KEY: VALUE}" in message
    assert "max_params: expected one value" in message and "Write it as 90s, 30m, 4h or auto" in message
    for name in ("mehtod", "epochs", "grace", "trials", "set", "baseline", "batch_size", "max_memory"):
        assert f"\n  {name}: " in message
    with pytest.raises(AutorankError, match="cannot be read"):
        parse_command("search", "--config", "absent.yaml")
    with pytest.raises(AutorankError, match="must map options to values"):
        (tmp_path / "list.yaml").write_text("[1, 2]")
        parse_command("search", "--config", tmp_path / "list.yaml")
    with pytest.raises(AutorankError, match="`autorank train` has no such option"):
        parse_command("train", "--config", write_options(tmp_path, method="lora", task="demo", trials=3))
    with pytest.raises(AutorankError, match="Did you mean 'increlora'"):
        spaces = {"increlor": {}, "lora": SPACE}
        parse_command("search", "--config", write_options(tmp_path, method="lora,increlora", task="demo", space=spaces))
    with pytest.raises(AutorankError, match="for one method"):
        parse_command("search", "--config", write_options(tmp_path, method="lora,increlora", task="demo", space=SPACE))


DEMO = ("search", "--task", "demo", "--name", "s")


@pytest.mark.parametrize(
    "words",
    [
        (*DEMO, "--method", "lora-drop"),
        (*DEMO, "--method", "lora", "--set", "alpha=8", "--set", "learning_rate=1e-5", "--seed", 3),
        (*DEMO, "--method", "lora-drop,increlora,prilora", "--set", "dropout=0.1", "--no-baseline"),
        (*DEMO, "--method", "increlora,adalora", "--set", "learning_rate=0.001", "--set", "targets=all-linear"),
        (*DEMO, "--method", "prilora", "--objective", "seconds", "--max-params", "1.2M", "--min-score", 0.7),
        (*DEMO, "--method", "prilora", "--max-memory", "12G", "--sampler", "nsga2", "--scheduler", "none"),
        (*DEMO, "--method", "lora", "--grace", 2, "--reduction-factor", 4, "--tune-split", 0.2),
        (*DEMO, "--method", "lora", "--steps", 50, "--batch-size", 8, "--accumulate", 2, "--eval-every", 10),
        (*DEMO, "--method", "lora", "--precision", "bf16", "--warmup-ratio", 0, "--max-grad-norm", 0.1,
         "--weight-decay", 1e-5, "--max-length", 64, "--max-train-examples", 100, "--max-eval-examples", 50),
        ("search", "--method", "lora", "--data", "d.csv", "--text", "a,1e5", "--label", "no", "--model", "org/m"),
        (*DEMO, "--method", "lora", "--space", "space.yaml", "--set", "retrain=ranks.json"),
    ],
)  # fmt: skip
def test_spec_show_makes_an_equal_search(
    words: tuple[object, ...], parse_command: Any, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE | {"dropout": 0.25}))
    spec, _ = parse_command(*words)
    with Journal.create(tmp_path / "runs" / spec.name, spec, (1.0, 0.0)) as journal:
        journal.set_options(trials=7, confirm=2)
    app.app(["spec", "show", spec.name], standalone_mode=False)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shown.yaml").write_text(capsys.readouterr().out)
    reloaded, use = parse_command("search", "--config", tmp_path / "elsewhere" / "shown.yaml")
    assert reloaded == spec and (use.trials, use.confirm_seeds) == ("7", 2)
    # dictionaries are equal in any order, but samplers draw in theirs
    assert [json.dumps(entry.space) for entry in reloaded.entries] == [
        json.dumps(entry.space) for entry in spec.entries
    ]


def test_values_without_an_option_are_refused(parse_command: Any) -> None:
    spec, _ = parse_command(*DEMO, "--method", "lora")
    with pytest.raises(AutorankError, match="made in Python"):
        as_yaml(spec.model_copy(update={"seed": 5}), {})


def test_train_takes_a_file_too(parse_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[Any] = []

    class Stop(Exception):
        pass

    def run(spec: Any) -> None:
        specs.append(spec)
        raise Stop

    monkeypatch.setattr("autorank.training.run.TrainingRun", run)
    with pytest.raises(Stop):
        parse_command(
            "train", "--config", write_options(tmp_path, method="lora", task="demo", set={"rank": 4}), "--epochs", 2
        )
    assert specs[0].settings == {"rank": 4} and specs[0].training.epochs == 2


def test_a_submitted_file_is_looked_for_where_the_job_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    write_options(folder, method="lora", data="pairs.jsonl", text="a", label="b", runs="out")
    monkeypatch.setattr(sys, "argv", ["autorank", "submit"])
    words = ["submit", "--working-dir", "work", "--address", "http://127.0.0.1:9", "--", "search", "--config"]
    with pytest.raises(AutorankError, match=r"--data pairs\.jsonl is not in --working-dir work(.|\n)*--runs out would"):
        app.app([*words, "options.yaml"], standalone_mode=False)
    write_options(folder, method="lora", task="demo", metric="mm.py:f", space={"lora": "s.yaml"})
    with pytest.raises(AutorankError, match=r"--metric mm\.py is not in(.|\n)*--space lora s\.yaml is not in"):
        app.app([*words, "options.yaml"], standalone_mode=False)
