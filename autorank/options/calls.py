"""All options of a command, which are also the keyword arguments of the Python function of its name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.errors import AutorankError
from autorank.options.budget import BudgetOptions
from autorank.options.parsing import expand
from autorank.options.run import RunOptions
from autorank.options.search import SearchOptions
from autorank.options.shared import runs_option
from autorank.redaction import hide

if TYPE_CHECKING:
    from autorank.spec import SearchSpec, TrainSpec

OUTPUT = "Output"
STORED = ("trials", "confirm_seeds")  # options that the next session has from the journal


@dataclass(frozen=True, kw_only=True)
class ResumeCall(BudgetOptions):
    """Options of `resume`."""

    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", help="Print only warnings, and the search's directory at the end.", rich_help_panel=OUTPUT
        ),
    ] = False
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object per event and line, for programs (docs/events.md).",
            rich_help_panel=OUTPUT,
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.quiet and self.json:
            raise AutorankError("--json and --quiet cannot be combined. Use only one.")

    def resume_command(self, name: str) -> str:
        """Return the command that continues a search as in this session, without passwords and tokens.

        Args:
            name: The search's name.

        Returns:
            `autorank resume NAME` with the options that are not at their default, except for those that the journal
            stores (`STORED`).
        """
        words = f"autorank resume {name}"
        for option in fields(ResumeCall):
            value, flag = getattr(self, option.name), f" --{option.name.replace('_', '-')}"
            if option.name == "runs":
                words += runs_option(value)
            elif option.name not in STORED and value != option.default:
                words += flag if value is True else f"{flag} {shlex.quote(hide(str(value)))}"
        return words


@dataclass(frozen=True, kw_only=True)
class SearchCall(ResumeCall, SearchOptions, RunOptions):
    """Options of `search`."""

    def ignored(self) -> dict[str, str]:
        """Options that have no effect -> with which others."""
        return SearchOptions.ignored(self) | RunOptions.ignored(self)

    def spec(self) -> SearchSpec:
        """Return the search.

        Raises:
            AutorankError: An option is invalid, or options contradict each other.
        """
        from autorank.searching.create import make_spec
        from autorank.searching.space import space as spaces

        source = self.space_source()
        spec = make_spec(
            spaces.load_all(self.methods, source, self.overrides), self.task_spec(), self.model_name(),
            self.training_spec(), self.name, seed=self.seed,
            baseline_space=spaces.by_method(self.methods, source).get(spaces.BASELINE), **self.values(),
        )  # fmt: skip
        if self.warm_start is None:
            return spec
        from autorank.searching.sampling.warm_start import AUTO, earlier_trials
        from autorank.trials.journal.journal import Journal
        from autorank.trials.journal.journal_file import JOURNAL
        from autorank.trials.retention import search_folder

        folder = search_folder(expand(self.runs), spec.name)
        if (folder / JOURNAL).exists():  # a search that is continued has its earlier trials in its journal
            if self.warm_start.strip() != AUTO and all(t.from_catalogue for t in Journal.open(folder).spec.warm_start):
                raise AutorankError(
                    f"--warm-start {self.warm_start}: the search {spec.name!r} has begun without earlier searches, "
                    "which are read only at its start. Leave the option out, or choose another --name."
                )
            return spec
        return spec.model_copy(update={"warm_start": earlier_trials(self.warm_start, expand(self.runs), spec)})


@dataclass(frozen=True, kw_only=True)
class TrainCall(RunOptions):
    """Options of `train`."""

    to: Annotated[
        Path | str | None,
        typer.Option(
            help="Directory of the best evaluation's adapter, in PEFT's format if PEFT can represent it.",
            metavar="DIR",
        ),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings only.", rich_help_panel=OUTPUT)] = False

    def spec(self) -> TrainSpec:
        """Return the training run.

        Raises:
            AutorankError: An option is invalid, or there are several methods.
        """
        from autorank.methods import train_spec
        from autorank.searching.space.yaml_values import parse_settings

        if len(self.methods) != 1:
            names = ",".join(self.methods)
            raise AutorankError(f"--method {names}: `train` takes one method. Use `autorank search` for several.")
        return train_spec(
            self.methods[0], parse_settings(self.overrides), self.task_spec(), self.training_spec(), self.model_name()
        )
