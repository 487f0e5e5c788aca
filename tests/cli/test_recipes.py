"""The commands for papers' tables, in this process; one table runs in a subprocess with Ray."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from autorank.cli import app
from autorank.errors import AutorankError
from autorank.recipes.load import read
from autorank.recipes.results import RecipeRun, Results
from autorank.recipes.run import run_identity
from tests.cli.commands import autorank
from tests.recipes.small_recipe import recipe_file, rte_workspace


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def run(*words: object) -> None:
    app.app([str(word) for word in words], standalone_mode=False)


def test_shipped_recipes_are_listed(capsys: Any) -> None:
    run("papers")
    printed = capsys.readouterr().out
    for name in ("increlora-table1", "increlora-squad", "lora-drop-table1", "lora-drop-table2", "prilora-glue"):
        assert name in printed
    assert "arXiv 2308.12043" in printed


def test_compare_before_and_after_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run("papers", "compare", "increlora-table2", "--format", "json")
    entries = json.loads(capsys.readouterr().out)
    assert [entry["reported"] for entry in entries if entry["line"] == "increlora"] == [88.81, 92.07]
    assert {entry["measured"] for entry in entries} == {None}
    recipe = read(recipe_file(tmp_path))
    with Results.open(tmp_path / "runs", "mine", run_identity(recipe, 1.0, None, None)) as results:
        for seed, score in ((0, 0.8), (1, 0.82)):
            evaluation = {"metrics": {"accuracy": score}, "adapter_params": 1000, "nonzero_params": 500}
            results.add(
                RecipeRun("lora/rte", seed), {"evaluations": [evaluation, evaluation | {"metrics": {"accuracy": 0.5}}]}
            )
    run("papers", "compare", "mine", "--format", "csv")
    (row,) = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["measured"]]
    assert (row["line"], row["seeds"], row["reported"], row["reported_sd"]) == ("lora", "2", "80.1", "0.2")
    values = [float(row[name]) for name in ("measured", "measured_sd", "last", "measured_params")]
    assert values == pytest.approx([81.0, 2**0.5, 50.0, 1000.0])
    monkeypatch.setenv("COLUMNS", "80")
    run("papers", "compare", "mine")
    printed = capsys.readouterr().out
    assert "8 more rows were not run" in printed and "mrpc" not in printed and "at inference only" not in printed
    assert "80.10 ± 0.20 81.00 ± 1.41" in printed and "1k (500)" in printed and "…" not in printed
    with pytest.raises(AutorankError, match="Did you mean 'mine'"):
        run("papers", "compare", "mina")


def test_a_table_that_was_not_run_has_all_rows_and_each_note_once(tmp_path: Path, capsys: Any) -> None:
    recipe = read(recipe_file(tmp_path))
    with Results.open(tmp_path / "runs", "mine", run_identity(recipe, 1.0, None, None)):
        pass
    run("papers", "compare", "mine")
    printed = capsys.readouterr().out
    assert "mrpc" in printed and printed.count("at inference only") == 1 and "more rows" not in printed


def test_another_precision_is_another_run(tmp_path: Path, capsys: Any) -> None:
    recipe = read(recipe_file(tmp_path, {"training: {": "training: {precision: fp32, "}))
    fp32_run = run_identity(recipe, 1.0, None, None)
    assert run_identity(recipe, 1.0, None, None, "fp32") == fp32_run
    with Results.open(tmp_path / "runs", "mine", run_identity(recipe, 1.0, None, None, "bf16")):
        pass
    with pytest.raises(AutorankError, match="its precision differs"):
        Results.open(tmp_path / "runs", "mine", fp32_run)
    run("papers", "compare", "mine")
    assert "--precision bf16" in capsys.readouterr().out


def test_dry_run_lists_the_trainings(tmp_path: Path, capsys: Any) -> None:
    run("search", "--recipe", recipe_file(tmp_path), "--rows", "again/*", "--seeds", 1, "--accumulate", 4, "--dry-run")
    first_line, second_line = capsys.readouterr().out.splitlines()
    assert (
        first_line.startswith("grown/rte, seed 0: increlora")
        and "accumulate 4" in first_line
        and "epochs 50" in first_line
    )
    assert second_line.endswith("ranks of grown/rte") and not (tmp_path / "runs").exists()


def test_an_invalid_change_of_a_row_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"The training of grown/rte is not valid(.|\n)*not a multiple of acc"):
        words = ("--rows", "again/*", "--seeds", 1, "--accumulate", 5, "--dry-run")
        run("search", "--recipe", recipe_file(tmp_path), *words)


@pytest.mark.parametrize(
    ("ending", "fails", "code", "expected"),
    [
        ("complete", False, 0, ""),
        ("complete", True, 1, "1 training failed. Run the same command to continue."),
        ("time budget", False, 0, "The time budget is used up. Run the same command to continue."),
        ("time budget", True, 1, "The time budget is used up. 1 training failed. Run the same command to continue."),
        (
            "interrupted",
            True,
            130,
            "Interrupted; all results are kept. 1 training failed. Run the same command to continue.",
        ),
    ],
)
def test_last_lines_of_a_recipe_run(
    ending: str, fails: bool, code: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fake_run(trainings: Any, results: Results, *arguments: object) -> str:
        for training in trainings:
            results.add(training.run, {"failed": "it [broke]"} if fails else {"evaluations": []})
        return ending

    monkeypatch.setattr("autorank.recipes.run.run", fake_run)
    words = ["search", "--recipe", recipe_file(tmp_path), "--rows", "lora/rte", "--seeds", 1]
    words += ["--runs", "my [bold] runs"]
    assert (app.app([str(word) for word in words], standalone_mode=False) or 0) == code
    first, *rest, last = capsys.readouterr().out.splitlines()
    assert first == "try  1 of 1 trainings to run" and last == "  autorank papers compare try --runs 'my [bold] runs'"
    assert rest == [*([expected] if expected else []), "", "Next:"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "lora", "--epochs", "3"), "--method, --epochs cannot be used with --recipe"),
        (("--trials", "3"), "--trials cannot be used with --recipe"),
        (("--rows", "lorra/*"), "matches no row"),
        (("--rows", "gone/*"), "only reported"),
    ],
)
def test_options_that_do_not_go_with_a_recipe(words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=expected.replace("*", r"\*")):
        run("search", "--recipe", recipe_file(tmp_path), *words)


def test_options_of_a_recipe_without_one() -> None:
    with pytest.raises(AutorankError, match="--scale needs --recipe FILE"):
        run("search", "--method", "lora", "--task", "demo", "--scale", "0.1")
    with pytest.raises(AutorankError, match="Did you mean 'increlora-table"):
        run("search", "--recipe", "increlora-table")
    with pytest.raises(AutorankError, match="--method NAME"):
        run("search", "--task", "demo")


@pytest.mark.long
def test_repeated_recipe_trains_nothing_twice(tmp_path: Path) -> None:
    rte_workspace(tmp_path, 100)
    rows = "lora-2/rte,increlora-2/rte,bitfit/rte"
    words = ("search", "--recipe", "increlora-table1", "--rows", rows, "--scale", 0.02, "--seeds", 1,
             "--model", "model", "--data", "data", "--name", "tried", "--concurrency", 1)  # fmt: skip
    result = autorank(*words, cwd=tmp_path)
    assert result.returncode == 0 and "[3/3]" in result.stdout and "failed" not in result.stdout, result.stderr
    repeated = autorank(*words, cwd=tmp_path)
    assert repeated.returncode == 0 and "0 of 3 trainings to run" in repeated.stdout
    assert len(Results.read(tmp_path / "runs", "tried").runs) == 3
