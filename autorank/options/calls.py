"""All options of a command together: they are also the keyword arguments of the Python function of its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.errors import AutorankError
from autorank.options.budget import BudgetOptions
from autorank.options.run import RunOptions
from autorank.options.search import SearchOptions

if TYPE_CHECKING:
    from autorank.spec import SearchSpec, TrainSpec

SHOWN = "What is printed"


@dataclass(frozen=True, kw_only=True)
class ResumeCall(BudgetOptions):
    """What a search may use, and how it is shown."""

    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", help="Print the search's folder at the end, and warnings; nothing else.", rich_help_panel=SHOWN
        ),
    ] = False
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Events for programs: one JSON object a line (docs/events.md).", rich_help_panel=SHOWN
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.quiet and self.json:
            raise AutorankError("--json prints events, --quiet the folder and nothing else: leave one of them out.")


@dataclass(frozen=True, kw_only=True)
class SearchCall(ResumeCall, SearchOptions, RunOptions):
    """All options of a search."""

    def spec(self) -> SearchSpec:
        """The search asked for.

        Raises:
            AutorankError: options that are refused or do not go together.
        """
        from autorank.searching.create import make_spec
        from autorank.searching.space import space as spaces

        source = self.space_source()
        return make_spec(
            spaces.load_all(self.methods, source, self.overrides), self.task_spec(), self.model_name(),
            self.training_spec(), self.name, seed=self.seed,
            beside=spaces.by_method(self.methods, source).get(spaces.CONTROL), **self.values(),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainCall(RunOptions):
    """All options of a single training."""

    to: Annotated[Path | str | None, typer.Option(help="Write the best evaluation's adapter here, for PEFT.")] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings only.", rich_help_panel=SHOWN)] = False

    def spec(self) -> TrainSpec:
        """The run asked for.

        Raises:
            AutorankError: options that are refused, or several methods.
        """
        from autorank.searching.space.space import parse_settings
        from autorank.spec import TrainSpec

        if len(self.methods) != 1:
            names = ",".join(self.methods)
            raise AutorankError(f"--method {names}: one run trains one method. `autorank search` takes several.")
        return TrainSpec(
            task=self.task_spec(), model=self.model_name(), method=self.methods[0],
            settings=parse_settings(self.overrides), training=self.training_spec(),
        )  # fmt: skip
