"""Options of `shrink`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.defaults import MAX_BUDGET, PRECISION, SEED, Precision
from autorank.errors import AutorankError
from autorank.options.data import DataOptions
from autorank.options.parsing import build_spec, parse_count
from autorank.options.shared import DATA, TRAINING

if TYPE_CHECKING:
    from autorank.spec import TrainingSpec

CHOICE, CUT_TRAINING = "Choice of a size", "Training at the chosen size"


@dataclass(frozen=True, kw_only=True)
class ShrinkCall(DataOptions):
    """Options of `shrink`."""

    model: Annotated[
        str | Path | None,
        typer.Option(
            help="Base model: a directory or a name on the Hub. Default: the adapter's.",
            metavar="MODEL",
            rich_help_panel=DATA,
        ),
    ] = None
    sizes: Annotated[int, typer.Option(help="Number of smaller sizes to score.")] = 12
    knee: Annotated[
        bool, typer.Option("--knee", help="Choose the front's knee (the default).", rich_help_panel=CHOICE)
    ] = False
    max_params: Annotated[
        str | int | None,
        typer.Option(
            help="Choose the best size with at most this many adapter parameters: 150000, 150k, 1.2M.",
            metavar="COUNT",
            rich_help_panel=CHOICE,
        ),
    ] = None
    min_score: Annotated[
        float | None,
        typer.Option(help="Choose the smallest size with at least this score.", rich_help_panel=CHOICE),
    ] = None
    max_score_drop: Annotated[
        float | None,
        typer.Option(
            help="Choose the smallest size that loses at most this much of the whole adapter's score.",
            rich_help_panel=CHOICE,
        ),
    ] = None
    energy: Annotated[
        float | None,
        typer.Option(
            help="Choose the smallest size with this share of the energy (squared singular values), above 0 and up to "
            "1. Needs no data.",
            rich_help_panel=CHOICE,
        ),
    ] = None
    to: Annotated[
        Path | str | None,
        typer.Option(help="Directory to which the chosen size is written as a PEFT adapter.", metavar="DIR"),
    ] = None
    pad: Annotated[
        bool,
        typer.Option("--pad", help="Pad the written adapter to one rank in all layers, for servers that require it."),
    ] = False
    figure: Annotated[
        Path | str | None,
        typer.Option(help="File to which the score over the parameters is drawn: .png, .svg or .pdf.", metavar="FILE"),
    ] = None
    steps: Annotated[
        int, typer.Option(help="Optimizer steps of training at the chosen size. 0: none.", rich_help_panel=CUT_TRAINING)
    ] = 0
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=CUT_TRAINING)] = 5e-4
    batch_size: Annotated[
        int | None,
        typer.Option(help="Examples per optimizer step. Default: the task's.", rich_help_panel=CUT_TRAINING),
    ] = None
    precision: Annotated[
        Precision,
        typer.Option(
            help="Floating-point precision. auto: bf16 on GPUs that compute in it, fp16 on older ones, fp32 on CPUs.",
            rich_help_panel=TRAINING,
        ),
    ] = PRECISION
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=CUT_TRAINING)] = SEED

    def __post_init__(self) -> None:
        choices = {
            "--knee": self.knee or None, "--max-params": self.max_params, "--min-score": self.min_score,
            "--max-score-drop": self.max_score_drop, "--energy": self.energy,
        }  # fmt: skip
        chosen = [option for option, value in choices.items() if value is not None]
        if len(chosen) > 1:
            raise AutorankError(f"Several options choose a size: {', '.join(chosen)}. Use only one.")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise AutorankError(f"--energy {self.energy:g}: expected a number above 0, at most 1.")
        if self.max_score_drop is not None and self.max_score_drop < 0:
            raise AutorankError(f"--max-score-drop {self.max_score_drop:g} is negative.")
        if not (1 <= self.sizes <= MAX_BUDGET and 0 <= self.steps <= MAX_BUDGET):
            raise AutorankError(f"--sizes must be at least 1, --steps at least 0, and both at most {MAX_BUDGET:,}.")
        needing = {"--min-score": self.min_score, "--max-score-drop": self.max_score_drop, "--figure": self.figure,
                   "--steps": self.steps or None, "--knee": self.knee or None}  # fmt: skip
        if not self.has_data and (missing := [option for option, value in needing.items() if value is not None]):
            raise AutorankError(
                f"{missing[0]} needs data to score sizes on. Give --task NAME, or --data FILE with its columns."
            )

    def ignored(self) -> dict[str, str]:
        """Options that have no effect -> without which others."""
        names: dict[str, tuple[str, ...]] = {}
        if self.to is None:
            names["without --to"] = ("pad",)
        if not self.steps:
            names["without --steps"] = ("learning_rate", "batch_size", "seed")
        if not self.has_data:
            data = (field.name for field in fields(DataOptions) if field.name not in ("task", "data"))
            names["without data (--task or --data)"] = ("sizes", "precision", *data)
        return {name: reason for reason, options in names.items() for name in options}

    @property
    def has_data(self) -> bool:
        """Whether sizes are scored on data."""
        return self.task is not None or self.data is not None

    @property
    def limit(self) -> int | None:
        """The most parameters, as a number."""
        return None if self.max_params is None else parse_count(self.max_params)

    def training_spec(self) -> TrainingSpec:
        """Return the options of training at the chosen size.

        Raises:
            AutorankError: A value is invalid.
        """
        from autorank.spec import TrainingSpec

        return build_spec(
            TrainingSpec, batch_size=self.batch_size, precision=self.precision, seed=self.seed, weight_decay=0.0
        )
