"""Options of a search: its space, objectives, sampler and early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autorank.defaults import REDUCTION_FACTOR, SAMPLER, Objective, Sampler, Scheduler
from autorank.options.config_file import parse_space
from autorank.options.parsing import build_spec, expand, parse_count
from autorank.options.shared import FRONT, STOPPING


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Space, objectives, sampler and early stopping of a search, one field per option."""

    name: Annotated[str | None, typer.Option(help="Name of the search. Default: METHOD-TASK.")] = None
    space: Annotated[
        Path | str | Mapping[str, Any] | None,
        typer.Option(help="Search space, a YAML file. Default: the method's own.", parser=parse_space, metavar="FILE"),
    ] = None
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline/--no-baseline",
            help="Also tune the baseline, plain LoRA, with a quarter of the trials, unless lora is one of the methods.",
            rich_help_panel=FRONT,
        ),
    ] = True
    objective: Annotated[
        Objective | None,
        typer.Option(
            help="Third objective, to be minimized: nonzero parameters, training time in seconds, or peak GPU memory. "
            "Default: none.",
            rich_help_panel=FRONT,
        ),
    ] = None
    max_params: Annotated[
        str | float | None,
        typer.Option(
            help="Upper limit of adapter parameters: 150000, 150k, 1.2M. Default: none.",
            metavar="COUNT",
            rich_help_panel=FRONT,
        ),
    ] = None
    min_score: Annotated[
        float | None, typer.Option(help="Lower limit of the score. Default: none.", rich_help_panel=FRONT)
    ] = None
    max_memory: Annotated[
        str | float | None,
        typer.Option(
            help="Upper limit of peak GPU memory in bytes: 800M, 12G. Default: none.",
            metavar="BYTES",
            rich_help_panel=FRONT,
        ),
    ] = None
    sampler: Annotated[
        Sampler, typer.Option(help="Optuna sampler that proposes settings.", rich_help_panel=STOPPING)
    ] = SAMPLER
    warm_start: Annotated[
        str | None,
        typer.Option(
            help="Earlier searches to start from, or auto: all with the same base model and one of the methods. "
            "Default: none.",
            metavar="NAME[,NAME]",
            rich_help_panel=STOPPING,
        ),
    ] = None
    catalogue: Annotated[
        bool,
        typer.Option(
            help="Begin with the settings that were best in recorded searches on similar tasks, before the methods' "
            "defaults.",
            rich_help_panel=STOPPING,
        ),
    ] = True
    scheduler: Annotated[
        Scheduler,
        typer.Option(
            help="Early stopping: asha (successive halving) stops weak trials early; none lets all finish.",
            rich_help_panel=STOPPING,
        ),
    ] = "asha"
    grace: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of evaluations before a trial may be stopped. Default: 1/N of a run's evaluations, where N is "
            "--reduction-factor.",
            rich_help_panel=STOPPING,
        ),
    ] = None
    reduction_factor: Annotated[
        int,
        typer.Option(
            min=2, help="Keep the best 1/N of trials at each rung (successive halving).", rich_help_panel=STOPPING
        ),
    ] = REDUCTION_FACTOR

    def ignored(self) -> dict[str, str]:
        """Options that have no effect -> with which others."""
        return dict.fromkeys(("grace", "reduction_factor"), "with --scheduler none") if self.scheduler == "none" else {}

    def space_source(self) -> Path | Mapping[str, Any] | None:
        """Return the search space as `autorank.searching.space.space` takes it: a file, a dict, or None."""
        return expand(self.space) if isinstance(self.space, str | Path) else self.space

    def values(self) -> dict[str, Any]:
        """Return the fields of a `SearchSpec` that these options set.

        Raises:
            AutorankError: A value is invalid.
        """
        from autorank.spec import HalvingSpec, ObjectivesSpec

        return {
            "sampler": self.sampler,
            "catalogue": self.catalogue,
            "baseline": self.baseline,
            "halving": None if self.scheduler == "none" else build_spec(
                HalvingSpec, grace=self.grace, factor=self.reduction_factor
            ),
            "objectives": build_spec(
                ObjectivesSpec, third_objective=self.objective, min_score=self.min_score,
                max_params=None if self.max_params is None else parse_count(self.max_params),
                max_memory=None if self.max_memory is None else parse_count(self.max_memory, "--max-memory"),
            ),
        }  # fmt: skip
