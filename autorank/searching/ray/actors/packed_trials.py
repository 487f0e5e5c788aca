"""Trials of a search that share the passes of one base model, in one process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from autorank.searching.ray.actors.recorded_run import ENDED, RecordedRun, failed
from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.packing.lane import Lane
from autorank.training.packing.pack import Pack
from autorank.trials.retention import checkpoint_path

T = TypeVar("T")


class PackedTrials:
    """The trials of a pack. Configs, files and results are those of `WarmTrial`.

    Results of a trial that cannot be packed also have the reason, `alone`.

    Args:
        folder: Directory of the search.
        model_cache: Provides base model and data.
    """

    def __init__(self, folder: Path, model_cache: ModelCache) -> None:
        self._folder, self._model_cache = folder, model_cache
        self._pack = Pack(model_cache)
        self._runs: dict[str, RecordedRun] = {}

    def advance(self, configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Train until at least one trial has a result.

        Args:
            configs: The trials to train, by an identifier of their lanes. Other trials leave the pack. New ones start,
                or continue from their checkpoints.

        Returns:
            The results, by the same identifiers. A trial with the result `done` has left the pack.

        Raises:
            torch.AcceleratorError: The GPU's context is unusable.
        """
        for lane in self._runs.keys() - configs.keys():
            self._leave(lane)
        results: dict[str, dict[str, Any]] = {}
        for lane, config in configs.items():
            result = self._guarded(self._unreported, lane, config)
            if result is not None:
                results[lane] = result
        if not results:
            results = self._train()
        for lane, result in results.items():
            if lane in self._runs and (reason := cast(Lane, self._runs[lane].run).reason_alone):
                results[lane] = result | {"alone": reason}
            if result["done"]:
                self._leave(lane)
        return results

    def _unreported(self, lane: str, config: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of a trial that was not reported yet, if there is one; start or resume a new trial."""
        if lane in self._runs:
            return self._runs[lane].unreported()
        state, evaluations = checkpoint.read(checkpoint_path(self._folder, config["number"]))
        run = self._pack.join(config["train"], state)
        self._runs[lane] = RecordedRun(self._folder, config, run, evaluations)
        return self._runs[lane].unreported() or (ENDED if run.finished else None)

    @staticmethod
    def _guarded(function: Callable[..., T], *arguments: Any) -> T | dict[str, Any]:
        """Call a function of one trial; its errors are results, but for those that make the GPU unusable."""
        try:
            return function(*arguments)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            return failed(error)

    def _train(self) -> dict[str, dict[str, Any]]:
        """Train until at least one trial is evaluated or fails."""
        try:
            results = self._pack.advance()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # not the error of one lane
            failures = {lane: failed(error) for lane in self._runs}
            for lane in failures:
                self._leave(lane)
            self._pack = Pack(self._model_cache)
            return failures
        lanes = {run.run: lane for lane, run in self._runs.items()}
        return {lanes[run]: self._result(lanes[run], result) for run, result in results.items()}

    def _result(self, lane: str, result: Evaluation | Exception) -> dict[str, Any]:
        """Write an evaluation."""
        return failed(result) if isinstance(result, Exception) else self._guarded(self._runs[lane].record, result)

    def _leave(self, lane: str) -> None:
        if lane in self._runs:
            run = cast(Lane, self._runs.pop(lane).run)
            if run in self._pack.lanes:  # else it has failed
                self._pack.leave(run)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
