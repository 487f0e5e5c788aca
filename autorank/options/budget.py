"""Options of what a search may use, and where it keeps what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.errors import AutorankError
from autorank.options import FRONT, MACHINES, RUNS, RUNS_OPTION, TrackingURI, seconds

if TYPE_CHECKING:
    from autorank.searching.budget import Budget


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What a search may use, and where it keeps what it finds."""

    trials: Annotated[
        str | int | None,
        typer.Option(
            help="Trials in all, those of earlier starts included, or +20: so many more. Default: 20, or as before.",
            rich_help_panel=MACHINES,
        ),
    ] = None
    time_budget: Annotated[
        str | float | None, typer.Option(help="Stop after: 90s, 30m, 4h.", rich_help_panel=MACHINES)
    ] = None
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. Default: as many as fit.", rich_help_panel=MACHINES)
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(min=0, help="May be a fraction. Default: 1 where there are GPUs.", rich_help_panel=MACHINES),
    ] = None
    workers_per_trial: Annotated[
        int, typer.Option(min=1, help="Workers that share each step's batch (Ray Train).", rich_help_panel=MACHINES)
    ] = 1
    max_retries: Annotated[
        int, typer.Option(min=0, help="Of a trial whose process died.", rich_help_panel=MACHINES)
    ] = 3
    confirm_seeds: Annotated[
        int | None,
        typer.Option(min=0, help="In the end, train the front again with so many seeds.", rich_help_panel=FRONT),
    ] = None
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: a local one.", rich_help_panel=MACHINES)
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(
            help="Object storage for what trials write, where nodes share no folder: s3://...",
            metavar="ADDRESS",
            rich_help_panel=MACHINES,
        ),
    ] = None
    tracking_uri: TrackingURI = None
    runs: Annotated[Path | str, RUNS_OPTION] = RUNS

    def budget(self) -> Budget:
        """What a search may use.

        Raises:
            AutorankError: a value that is refused.
        """
        from autorank.searching.budget import Budget

        text = "" if self.trials is None else str(self.trials)
        number = text.removeprefix("+")
        if self.trials is not None and (not number.isdecimal() or int(number) < 1):
            raise AutorankError(f"--trials {text!r} is not a number of trials; write 30, or +20 for 20 more.")
        return Budget(
            trials=int(number) if number else None, more=text.startswith("+"),
            seconds=None if self.time_budget is None else seconds(self.time_budget),
            concurrency=self.concurrency, gpus_per_trial=self.gpus_per_trial, workers=self.workers_per_trial,
            retries=self.max_retries, confirm=self.confirm_seeds, address=self.address, storage=self.storage,
        )  # fmt: skip
