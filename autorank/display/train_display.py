"""A single training, printed as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from autorank.errors import AutorankError
from autorank.reporting.tables import count
from autorank.training.run import TrainingRun
from autorank.training.run_summary import Outlook, title
from autorank.trials.front import Point
from autorank.trials.record import Evaluation


def follow(
    console: Console, run: TrainingRun, best_adapter: Path, warn: Callable[[str], object]
) -> tuple[Point, list[Evaluation]]:
    """Print a training's evaluations as they come; returns the best of them, and all.

    Args:
        best_adapter: where the adapter of the best one is left.
        warn: called with what the user should know, however little is printed.

    Raises:
        AutorankError: no evaluation had a finite score.
    """
    best: Evaluation | None = None
    evaluations = []
    console.print(f"{title(run.spec)}: loading data and model", markup=False)
    outlook = run.begin()
    _ahead(console, outlook)
    if outlook.data.shortened:
        warn(outlook.data.shortened)
    console.print(_row("epoch", "step", "loss", "score", "parameters", "seconds"), style="dim")
    for evaluation in run:
        evaluations.append(evaluation)
        values = (f"{evaluation.epoch:.1f}", str(evaluation.step), f"{evaluation.train_loss:.4f}",
                  f"{evaluation.score:.4f}", count(evaluation.adapter_params), f"{evaluation.seconds:.1f}")  # fmt: skip
        console.print(_row(*values))
        if math.isfinite(evaluation.score) and (best is None or evaluation.score > best.score):
            best = evaluation
            run.save_adapter(best_adapter)
    if best is None:
        raise AutorankError("No evaluation had a finite score; use a lower learning_rate.")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in best.metrics.items())
    console.print(f"best: step {best.step}, {scores}; {best.adapter_params:,} adapter parameters "
                  f"and {best.head_params:,} of the head")  # fmt: skip
    point = Point(
        0, best.step, best.adapter_params, best.score, dict(run.settings), best.nonzero_params, best.metrics,
        run.spec.method,
    )  # fmt: skip
    return point, evaluations


def _ahead(console: Console, outlook: Outlook) -> None:
    """What is going to be done, for the first evaluation may take long."""
    data = outlook.data
    validated = " + ".join(f"{split.examples:,}" for split in data.validation.values())
    console.print(
        f"{data.train.examples:,} examples to train on, {validated} to validate; {outlook.steps:,} steps; "
        f"{outlook.trained:,} parameters train; {outlook.device}, {outlook.precision}", soft_wrap=True,
    )  # fmt: skip


def _row(*cells: str) -> str:
    return "".join(f"{cell:>11}" for cell in cells)
