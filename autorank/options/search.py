"""Options of a search: how it goes about it, and what it is after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autorank.errors import AutorankError
from autorank.options import FRONT, STOPPING, built, completion, parse_count, place
from autorank.options.config_file import space


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a search goes about it, and what it is after."""

    name: Annotated[str | None, typer.Option(help="Default: METHOD-TASK.")] = None
    space: Annotated[
        Path | str | Mapping[str, Any] | None,
        typer.Option(help="Search space, YAML. Default: the method's.", parser=space, metavar="FILE"),
    ] = None
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Tune plain LoRA too, to compare.", rich_help_panel=FRONT)
    ] = True
    objective: Annotated[
        str | None,
        typer.Option(
            help="A third one, to be small: nonzero_params, seconds or memory.",
            rich_help_panel=FRONT,
            autocompletion=completion.one_of("nonzero_params", "seconds", "memory"),
        ),
    ] = None
    max_params: Annotated[
        str | float | None, typer.Option(help="No larger adapters: 150000, 150k, 1.2M.", rich_help_panel=FRONT)
    ] = None
    min_score: Annotated[float | None, typer.Option(help="No point that scores less.", rich_help_panel=FRONT)] = None
    max_memory: Annotated[
        str | float | None,
        typer.Option(help="No point that took more GPU memory: 800M, 12G bytes.", rich_help_panel=FRONT),
    ] = None
    sampler: Annotated[
        str,
        typer.Option(
            help="tpe, nsga2, gp or random.",
            rich_help_panel=STOPPING,
            autocompletion=completion.one_of("tpe", "nsga2", "gp", "random"),
        ),
    ] = "tpe"
    scheduler: Annotated[
        str,
        typer.Option(
            help="asha stops trials early; none lets all end.",
            rich_help_panel=STOPPING,
            autocompletion=completion.one_of("asha", "none"),
        ),
    ] = "asha"
    grace: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Evaluations before a trial may be stopped. Default: one in --reduction-factor of a run's.",
            rich_help_panel=STOPPING,
        ),
    ] = None
    reduction_factor: Annotated[
        int, typer.Option(min=2, help="One in so many goes on at a rung.", rich_help_panel=STOPPING)
    ] = 3
    brackets: Annotated[
        int, typer.Option(min=1, help="Each starts stopping a rung later.", rich_help_panel=STOPPING)
    ] = 1

    def space_source(self) -> Path | Mapping[str, Any] | None:
        """The space, as `autorank.searching.space.space` takes it."""
        return place(self.space) if isinstance(self.space, str | Path) else self.space

    def values(self) -> dict[str, Any]:
        """The fields of a `SearchSpec` that these options fill.

        Raises:
            AutorankError: a value that is refused.
        """
        from autorank.reporting.tables import THIRD
        from autorank.spec import HalvingSpec, ObjectivesSpec

        if self.scheduler not in ("asha", "none"):
            raise AutorankError(f"There is no scheduler {self.scheduler!r}; there are: asha, none.")
        if self.objective not in (None, *THIRD):
            raise AutorankError(f"There is no third objective {self.objective!r}; there are: {', '.join(THIRD)}.")
        return {
            "sampler": self.sampler,
            "control": self.control,
            "halving": None if self.scheduler == "none" else built(
                HalvingSpec, grace=self.grace, factor=self.reduction_factor, brackets=self.brackets
            ),
            "objectives": built(
                ObjectivesSpec, third=self.objective, min_score=self.min_score,
                max_params=None if self.max_params is None else parse_count(self.max_params),
                max_memory=None if self.max_memory is None else parse_count(self.max_memory, "--max-memory"),
            ),
        }  # fmt: skip
