"""Prints the evaluations of a single training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from autorank.errors import AutorankError
from autorank.reporting.tables import count
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun
from autorank.training.run_summary import RunSummary, title
from autorank.trials.point import Point


def follow(
    console: Console, run: TrainingRun, best_adapter: Path, warn: Callable[[str], object]
) -> tuple[Point, list[Evaluation]]:
    """Train, and print the evaluations.

    Args:
        console: The console.
        run: The training.
        best_adapter: File to which the best evaluation's adapter is written.
        warn: Called with warnings, which are printed even if the console is quiet.

    Returns:
        The best evaluation as a point, and all evaluations.

    Raises:
        AutorankError: No evaluation had a finite score.
    """
    best: Evaluation | None = None
    evaluations = []
    console.print(f"{title(run.spec)}: loading data and model", markup=False)
    run.start()
    summary = run.summary()
    _print_summary(console, summary)
    for warning in summary.warnings:
        warn(warning)
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
        raise AutorankError("No evaluation had a finite score. Use a lower learning_rate.")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in best.metrics.items())
    console.print(f"best: step {best.step}, {scores}; {best.adapter_params:,} adapter parameters "
                  f"and {best.head_params:,} parameters of the head")  # fmt: skip
    for slice_ in best.slices:
        console.print(f"cut to {slice_.adapter_params:,} adapter parameters: score {slice_.score:.4f}")
    point = Point(
        0, best.step, best.adapter_params, best.score, dict(run.settings), best.nonzero_params, best.metrics,
        run.spec.method,
    )  # fmt: skip
    return point, evaluations


def _print_summary(console: Console, summary: RunSummary) -> None:
    """Print the size of the training, since the first evaluation may take long."""
    data = summary.data
    if data.labels:
        console.print(data.labels, markup=False, soft_wrap=True)
    validated = " + ".join(f"{split.examples:,}" for split in data.validation.values())
    console.print(
        f"{data.train.examples:,} training and {validated} validation examples; {summary.steps:,} steps; "
        f"{summary.trained:,} trainable parameters; {summary.device}, {summary.precision}", soft_wrap=True,
    )  # fmt: skip


def _row(*cells: str) -> str:
    return "".join(f"{cell:>11}" for cell in cells)
