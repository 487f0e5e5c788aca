"""The run of a trial, whose evaluations are on disk before they are reported."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ray.tune.result import RESULT_DUPLICATE

from autorank.errors import AutorankError
from autorank.redaction import hide
from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.optimization.distributed import rank
from autorank.training.run import TrainingRun
from autorank.trials.retention import adapter_path, checkpoint_path

ENDED = {"done": True, RESULT_DUPLICATE: True}  # result of a trial that has no more evaluations


class RecordedRun:
    """The results of a run for Tune, as an iterator; a result with `done` is the last.

    The adapter of a new evaluation, and then a checkpoint, are written before its result is returned; with several
    workers, by the first one. A pack, which trains its runs together, calls `unreported` and `record` instead.

    Args:
        folder: Directory of the search.
        config: The trial's config, see `WarmTrial`.
        run: The run, resumed from the trial's checkpoint.
        evaluations: The checkpoint's evaluations; those after the last recorded step are reported first.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], run: TrainingRun, evaluations: Sequence[Evaluation]
    ) -> None:
        run.score_from = config.get("until") or 0
        self.run = run
        self._folder, self._config, self._evaluations = folder, config, list(evaluations)
        self._unreported = deque(e for e in evaluations if e.step > config["recorded"])

    def __iter__(self) -> RecordedRun:
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next result that was not reported yet; train until the next evaluation if there is none."""
        return self.unreported() or self.record(next(self.run))

    def unreported(self) -> dict[str, Any] | None:
        """Return the result of the next evaluation that was not reported yet, or None."""
        return self._result(self._unreported.popleft()) if self._unreported else None

    def record(self, evaluation: Evaluation) -> dict[str, Any]:
        """Write a new evaluation of the run.

        Args:
            evaluation: The evaluation.

        Returns:
            Its result.
        """
        self._evaluations.append(evaluation)
        if rank() == 0:
            number = self._config["number"]
            if "until" not in self._config:
                self.run.save_adapter(adapter_path(self._folder, number, evaluation.step))
            checkpoint.save(checkpoint_path(self._folder, number), self.run, self._evaluations)
        return self._result(evaluation)

    def _result(self, evaluation: Evaluation) -> dict[str, Any]:
        """The result of an evaluation; all workers take part, because they share the scoring of slices."""
        finished = evaluation.step == (self._config.get("until") or self.run.total_steps)
        if finished and self._config.get("sizes"):
            evaluation = self.run.with_slices(evaluation, self._config["sizes"])
        return {"evaluation": evaluation, "finished": finished, "done": finished}


def failed(error: Exception) -> dict[str, Any]:
    """The result of a trial whose run raised an error."""
    return {
        "failed": hide(reason(error)),
        "traceback": hide("".join(traceback.format_exception(error))),
        "out_of_memory": isinstance(error, torch.OutOfMemoryError),
        "done": True,
    }


def reason(error: BaseException) -> str:
    """The reason why a trial failed, in one line."""
    if isinstance(error, AutorankError):
        return " ".join(str(error).split())
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}"
