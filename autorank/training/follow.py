"""A single training, printed as it goes."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from autorank.errors import AutorankError
from autorank.results.front import Point
from autorank.results.records import Evaluation
from autorank.results.report import count
from autorank.training.run import TrainingRun


def follow(console: Console, run: TrainingRun, best_adapter: Path) -> Point:
    """Print a training's evaluations as they come; the adapter of the best one is left in `best_adapter`.

    Raises:
        AutorankError: no evaluation had a finite score.
    """
    best: Evaluation | None = None
    console.print(_row("epoch", "step", "loss", "score", "parameters", "seconds"), style="dim")
    for evaluation in run:
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
    return Point(
        0, best.step, best.adapter_params, best.score, dict(run.settings), best.nonzero_params, best.metrics
    )


def _row(*cells: str) -> str:
    return "".join(f"{cell:>11}" for cell in cells)
