"""The file of a recipe's results."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.recipes.load import read
from autorank.recipes.results import FILE, RecipeRun, Results
from autorank.recipes.run import run_identity
from tests.recipes.small_recipe import recipe_file


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A directory with the run `try` of which one training ended."""
    with Results.open(tmp_path / "runs", "try", run_identity(read(recipe_file(tmp_path)), 1.0, None, None)) as results:
        results.add(RecipeRun("lora/rte", 0), {"evaluations": []})
        results.add(RecipeRun("lora/rte", 1), {"failed": "no memory"})
    return tmp_path / "runs"


def test_results_are_read_back(runs: Path) -> None:
    results = Results.read(runs, "try")
    assert results.runs == {("lora/rte", 0): {"evaluations": []}, ("lora/rte", 1): {"failed": "no memory"}}
    assert (
        results.done(RecipeRun("lora/rte", 0))
        and not results.done(RecipeRun("lora/rte", 1))
        and results.recipe.name == "try"
    )


def test_an_incomplete_last_line_is_ignored(runs: Path) -> None:
    with (runs / "try" / FILE).open("a") as file:
        file.write('{"row": "lora/rte", "se')
    assert len(Results.read(runs, "try").runs) == 2


@pytest.mark.parametrize("line", [2, 3])
@pytest.mark.parametrize("text", ["{", "[]", "null", "7", '{"row": "lora/rte"}', "", "\x00\x00"])
def test_a_damaged_line_is_named(line: int, text: str, runs: Path) -> None:
    lines = (runs / "try" / FILE).read_text().split("\n")
    lines[line - 1] = text
    (runs / "try" / FILE).write_text("\n".join(lines))
    with pytest.raises(AutorankError, match=rf"{FILE} is damaged in line {line} .*Delete that line"):
        Results.read(runs, "try")


@pytest.mark.parametrize("first_line", ["", "{", "[1]", "{}", '{"recipe": {"name": "try"}}', '{"recipe": 1}'])
def test_a_damaged_first_line_is_named(first_line: str, runs: Path) -> None:
    (runs / "try" / FILE).write_text(f"{first_line}\n")
    with pytest.raises(AutorankError, match=f"{FILE} is damaged in line 1 .*Move the file away"):
        Results.read(runs, "try")


def test_bytes_that_are_not_text_are_reported(runs: Path) -> None:
    (runs / "try" / FILE).write_bytes(b"\xff\xfe\n")
    with pytest.raises(AutorankError, match="is damaged"):
        Results.read(runs, "try")
