"""Options of a search's budget, machines and directories."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autorank.defaults import LANES, MAX_BUDGET, MAX_RETRIES, RUNS, WORKERS
from autorank.errors import AutorankError
from autorank.options.parsing import int_or_auto, parse_seconds
from autorank.options.shared import FRONT, MACHINES, RUNS_OPTION, TrackingURI

if TYPE_CHECKING:
    from autorank.searching.budget import Budget


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """Budget, machines and directories of a search, one field per option."""

    trials: Annotated[
        str | int | None,
        typer.Option(
            help="Number of trials in total, earlier sessions included, or +20: 20 more than a search has, or the rest "
            "of an unfinished one. Default: as in the earlier session, or 20.",
            metavar="N|+N",
            rich_help_panel=MACHINES,
        ),
    ] = None
    time_budget: Annotated[
        str | float | None,
        typer.Option(
            help="Stop after this time: 90s, 30m, 4h; or auto, three minutes before the limit of the Slurm job. "
            "Default: no limit.",
            metavar="TIME|auto",
            rich_help_panel=MACHINES,
        ),
    ] = None
    stop_when_flat: Annotated[
        bool,
        typer.Option(
            "--stop-when-flat",
            help="Stop when the next ten trials are not expected to add 0.2% to the hypervolume of the front.",
            rich_help_panel=MACHINES,
        ),
    ] = False
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of trials that run at the same time. Default: as many as fit on the GPUs; without GPUs 4, or "
            "one per 4 CPUs if that is more.",
            rich_help_panel=MACHINES,
        ),
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GPUs reserved for each trial; 0.5 runs two trials on one GPU. Default: 1 for each worker if there "
            "are GPUs.",
            rich_help_panel=MACHINES,
        ),
    ] = None
    workers_per_trial: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of workers of each trial, which share each step's batch (Ray Train).",
            rich_help_panel=MACHINES,
        ),
    ] = WORKERS
    lanes: Annotated[
        int | str,
        typer.Option(
            help="Trials that train together in one process and share the base model's forward and backward passes. "
            "auto: measure the throughput once on the GPU and choose; 1 on a CPU.",
            parser=int_or_auto,
            metavar="N|auto",
            rich_help_panel=MACHINES,
        ),
    ] = LANES
    max_retries: Annotated[
        int,
        typer.Option(min=0, help="How often a trial is restarted after its process died.", rich_help_panel=MACHINES),
    ] = MAX_RETRIES
    confirm_seeds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Mean number of new seeds with which the points of the front are trained again at the end. Points "
            "whose membership is uncertain get more. Default: as in the earlier session, or 0.",
            rich_help_panel=FRONT,
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a running Ray cluster. Default: RAY_ADDRESS, else a local Ray.",
            metavar="ADDRESS",
            rich_help_panel=MACHINES,
        ),
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(
            help="Object storage for the files of trials, for clusters without a shared directory: s3://...",
            metavar="URI",
            rich_help_panel=MACHINES,
        ),
    ] = None
    tracking_uri: TrackingURI = None
    runs: Annotated[Path | str, RUNS_OPTION] = RUNS

    def budget(self) -> Budget:
        """Return the budget of a search.

        Raises:
            AutorankError: A value is invalid.
        """
        from autorank.searching.budget import Budget

        text = "" if self.trials is None else str(self.trials)
        number = text.removeprefix("+")
        if self.trials is not None and (not number.isdecimal() or len(number) > 12 or int(number) < 1):
            raise AutorankError(
                f"--trials {reprlib.repr(text)} is not a number of trials. Write 30, or +20 for 20 more."
            )
        counts = {"--concurrency": self.concurrency, "--workers-per-trial": self.workers_per_trial,
                  "--lanes": self.lanes, "--max-retries": self.max_retries, "--confirm-seeds": self.confirm_seeds,
                  "--trials": int(number or 0)}  # fmt: skip
        for option, value in counts.items():
            if isinstance(value, int) and value > MAX_BUDGET:
                raise AutorankError(f"{option} {value}: expected at most {MAX_BUDGET:,}.")
        return Budget(
            lanes=self._lanes(),
            trials=int(number) if number else None, more=text.startswith("+"),
            seconds=None if self.time_budget is None else parse_seconds(self.time_budget),
            concurrency=self.concurrency, gpus_per_trial=self.gpus_per_trial, workers=self.workers_per_trial,
            retries=self.max_retries, confirm=self.confirm_seeds, address=self.address, storage=self.storage,
            stop_when_flat=self.stop_when_flat,
        )  # fmt: skip

    def _lanes(self) -> int | Literal["auto"]:
        if self.lanes != 1 and self.workers_per_trial > 1:
            raise AutorankError(
                f"--lanes {self.lanes} and --workers-per-trial {self.workers_per_trial} cannot be combined. Use "
                "--lanes for small trials that share a GPU, or --workers-per-trial for large ones that need several."
            )
        if self.lanes == "auto":
            return "auto"
        if isinstance(self.lanes, str) or self.lanes < 1:
            raise AutorankError(f"--lanes {self.lanes}: expected an integer of at least 1, or auto.")
        return self.lanes
