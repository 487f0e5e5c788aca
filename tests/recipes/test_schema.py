"""Parsing and validation of recipes, and the recipes that are shipped with autorank."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.recipes.load import read, shipped
from autorank.recipes.rows import chosen, rows
from autorank.recipes.schema import figure
from tests.recipes.small_recipe import recipe_file


def test_a_row_has_the_nearest_value_of_each_setting(tmp_path: Path) -> None:
    recipe = read(recipe_file(tmp_path))
    by_name = {row.name: row for row in rows(recipe, model="other", data=Path("/data"))}
    assert list(by_name) == ["lora/rte", "grown/rte", "again/rte", "gone/rte", "lora/mrpc", "grown/mrpc", "gone/mrpc"]
    lora = by_name["lora/rte"].train
    assert lora is not None and (lora.method, lora.model, lora.task.data) == ("lora", "other", "/data/rte")
    assert lora.settings == {"alpha": 16, "rank": 4, "learning_rate": 1e-3}
    assert (lora.training.epochs, lora.training.batch_size, lora.training.weight_decay) == (50, 8, 0.0)
    mrpc = by_name["lora/mrpc"].train
    assert mrpc is not None and mrpc.training.epochs == 30 and mrpc.settings["learning_rate"] == 2e-3
    assert by_name["lora/rte"].assumed == {"weight_decay": "not given"}  # what the line itself gives is not assumed
    assert by_name["grown/rte"].assumed == {"weight_decay": "not given", "learning_rate": "nor this"}
    assert by_name["again/rte"].ranks_of == "grown/rte" and by_name["gone/rte"].train is None


def test_all_errors_are_reported_together(tmp_path: Path) -> None:
    wrong = {
        "tasks: [rte, mrpc]": "tasks: [rte, mrcp]",
        "rank: 4": "rnk: 4",
        "batch_size: 8": "batch_sise: 8",
        "mean_rank: 2": "mean_rank: 0",
        "ranks_of: grown": "ranks_of: growth",
        "f1: 94": "f2: 94",
    }
    with pytest.raises(AutorankError) as error:
        read(recipe_file(tmp_path, wrong))
    for message in ("'mrpc'", "'rank'", "'batch_size'", "mean_rank: Input should be greater", "'grown'"):
        assert message in str(error.value)
    with pytest.raises(AutorankError, match=r"methods\.lora\.reported\.score: '80,1' is not a figure"):
        read(recipe_file(tmp_path, {"80.1 ± 0.2": '"80,1"'}))
    with pytest.raises(AutorankError, match=r"methods\.lora\.setings: unknown key; did you mean 'settings'"):
        read(recipe_file(tmp_path, {"lora:\n    settings": "lora:\n    setings"}))
    with pytest.raises(AutorankError, match=r"\n  trainings: unknown key; did you mean 'training'"):
        read(recipe_file(tmp_path, {"training: {batch": "trainings: {batch"}))
    with pytest.raises(AutorankError, match="metric of mrpc 'f2'"):
        read(recipe_file(tmp_path, {"f1: 94": "f2: 94"}))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("again: {method: increlora, ranks_of: gone}", "gone is not run"),
        ("again: {method: increlora, ranks_of: grown}\n  more: {method: lora, ranks_of: again}", "the ranks of grown"),
        ("again: {method: increlora, ranks_of: part}\n  part: {method: lora, tasks: [rte]}", "not trained on mrpc"),
    ],
)
def test_ranks_of_untrained_rows_are_refused(line: str, reason: str, tmp_path: Path) -> None:
    changes = {"again: {method: increlora, ranks_of: grown, tasks: [rte]}": line}
    with pytest.raises(AutorankError, match=f"ranks_of: .*{reason}.*Name a line that is trained"):
        read(recipe_file(tmp_path, changes))


def test_requested_seeds_and_rows_are_selected(tmp_path: Path) -> None:
    recipe = read(recipe_file(tmp_path, {"seeds: 2": "seeds: [41, 42]"}))
    assert recipe.seed_list() == [41, 42] and recipe.seed_list(1) == [41] and recipe.seed_list(4) == [41, 42, 43, 44]
    names = [row.name for row in rows(recipe)]
    assert chosen(names, "grown/*,*/mrpc") == ["grown/rte", "lora/mrpc", "grown/mrpc", "gone/mrpc"]
    row_names = ["lora/rte", "lora/mrpc", "increlora-2/rte", "increlora-2/mrpc"]
    for wrong, suggestion in (
        ("lorra/*", "lora/*"), ("lora", "lora/*"), ("*/rt", "*/rte"), ("increlora2/mprc", "increlora-2/mrpc"),
    ):  # fmt: skip
        with pytest.raises(
            AutorankError, match=f"Did you mean '{re.escape(suggestion)}'. Rows are written as"
        ) as error:
            chosen(row_names, wrong)
        assert "Available lines: lora, increlora-2; tasks: rte, mrpc" in str(error.value)
    with pytest.raises(AutorankError, match="matches no row"):
        chosen(names, "lora/rte,lorra/*")


def test_figures() -> None:
    assert figure("90.93 ± 0.04") == (90.93, 0.04) and figure(86) == (86.0, None)


@pytest.mark.parametrize("name", list(shipped()))
def test_every_recipe_that_comes_with_autorank_is_valid(name: str) -> None:
    recipe = read(Path(name))
    assert recipe.name == name
    for row in rows(recipe):
        reported = recipe.methods[row.line].reported.score
        assert name == "prilora-glue" or row.task in reported


# average of a line as printed, and the mean of its tasks as printed: typing errors show (both are rounded, at a tenth)
@pytest.mark.parametrize("name", [value for value in shipped() if value != "prilora-glue"])
def test_reported_averages_are_those_of_the_reported_figures(name: str) -> None:
    recipe = read(Path(name))
    for line, block in recipe.methods.items():
        if block.reported.average is None:
            continue
        printed = [value["rouge"] if isinstance(value, dict) else value for value in block.reported.score.values()]
        figures = [figure(value)[0] for value in printed]
        assert len(figures) == len(recipe.tasks)
        assert sum(figures) / len(figures) == pytest.approx(figure(block.reported.average)[0], abs=0.1), line
