"""The file of a recipe's results: one JSON line per training, written when the training has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from autorank import atomic_io
from autorank.errors import AutorankError, unknown
from autorank.recipes.schema import Recipe
from autorank.trials.journal.journal_lock import DriverLock
from autorank.trials.retention import search_folder

FILE = "recipe.jsonl"


class RecipeRun(NamedTuple):
    """One training of a recipe: the name of its row, and its seed."""

    row: str
    seed: int


class Results:
    """The results of one run of a recipe. A context manager that releases the file's lock.

    Args:
        folder: The run's directory.
        identity: The first line.
        runs: The other lines.

    Attributes:
        folder: The run's directory.
        identity: The first line: recipe, scale, model, data and precision.
        runs: RecipeRun -> `evaluations`, `ranks`, ... of a training that ended, or `failed`: the reason.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], runs: dict[RecipeRun, dict[str, Any]]) -> None:
        self.folder, self.identity, self.runs = folder, identity, runs
        self._lock: DriverLock | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return Recipe.model_validate(self.identity["recipe"])

    @classmethod
    def read(cls, runs: Path, name: str) -> Results:
        """Return the results of a run as they are now.

        Args:
            runs: The directory of all searches and runs.
            name: The run's name.

        Returns:
            The results.

        Raises:
            AutorankError: There is no such run of a recipe, or its file is damaged.
        """
        folder = search_folder(runs, name)
        if not (folder / FILE).is_file():
            raise unknown("run of a recipe", name, [file.parent.name for file in runs.glob(f"*/{FILE}")])
        number = 1
        try:
            lines = (folder / FILE).read_text(encoding="utf-8").split("\n")[:-1]  # the last is empty or incomplete
            identity = json.loads(lines[0])
            Recipe.model_validate(identity["recipe"])
            outcomes = {}
            for number, line in enumerate(lines[1:], start=2):  # noqa: B007
                outcome = json.loads(line)
                outcomes[RecipeRun(outcome.pop("row"), outcome.pop("seed"))] = outcome
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # JSON, UTF-8 and validation errors
            remedy = "Delete that line" if number > 1 else "Move the file away and run the recipe again"
            raise AutorankError(
                f"{folder / FILE} is damaged in line {number} ({type(error).__name__}). {remedy}."
            ) from error
        return cls(folder, identity, outcomes)

    @classmethod
    def open(cls, runs: Path, name: str, identity: Mapping[str, Any]) -> Results:
        """Start or continue a run; only one process may run it at a time.

        Args:
            runs: The directory of all searches and runs.
            name: The run's name.
            identity: The first line, see `autorank.recipes.run.run_identity`.

        Returns:
            The results, which can be extended.

        Raises:
            AutorankError: The name belongs to a different run, or another process is running it.
        """
        folder = search_folder(runs, name)
        folder.mkdir(parents=True, exist_ok=True)
        lock = DriverLock(folder / FILE)
        lock.take()
        try:
            lock.remove_incomplete_line()
            if not (folder / FILE).exists() or not (folder / FILE).stat().st_size:
                atomic_io.append(json.dumps(identity), folder / FILE)
            results = cls.read(runs, name)
            if differ := [key for key in identity if results.identity.get(key) != identity[key]]:
                raise AutorankError(
                    f"{runs} already contains a run {name!r}: its {' and '.join(differ)} "
                    f"{'differs' if len(differ) == 1 else 'differ'}. Give the same options to continue it, "
                    "or another --name."
                )
        except BaseException:
            lock.drop()
            raise
        results._lock = lock
        return results

    def add(self, run: RecipeRun, outcome: dict[str, Any]) -> None:
        """Append the result of a training.

        Args:
            run: The training.
            outcome: `evaluations`, `ranks`, ..., or `failed`.
        """
        assert self._lock is not None
        self._lock.remove_incomplete_line()  # left by a full disk
        atomic_io.append(json.dumps({**run._asdict(), **outcome}), self.folder / FILE)
        self.runs[run] = outcome

    def done(self, run: RecipeRun) -> bool:
        """Whether a training has ended; a failed one is repeated."""
        return "evaluations" in self.runs.get(run, {})

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.drop()
