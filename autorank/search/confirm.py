"""The points of a front trained again with fresh seeds, each to the step at which it was found."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from autorank.results.journal import Journal
from autorank.search.files import remove
from autorank.search.searcher import plain
from autorank.search.source import Death, TrialSource

logger = logging.getLogger(__name__)

FOLDER = "confirm"  # of their checkpoints, in the search's folder
FIRST_SEED = 1_000  # ours: far from the seeds that people give searches


class ConfirmSearcher(TrialSource):
    """Tune's searcher over what is still to be confirmed: every point of the fronts, the control's too, `seeds` times.

    They train on what the search trained on, and are scored on the task's own validation split.

    Args:
        folder: of their checkpoints, which go when they have ended.
        deadline: `time.monotonic()` after which none starts and none goes on; such a one is cut off, not stored.
    """

    def __init__(
        self, journal: Journal, seeds: int, folder: Path, deadline: float = math.inf, retries: int = 3
    ) -> None:
        super().__init__(deadline, retries)
        self._journal, self._seeds, self._folder = journal, seeds, folder
        self._running: dict[str, tuple[int, int, int]] = {}
        self._died: Counter[tuple[int, int, int]] = Counter()
        self._left: deque[tuple[int, int, int]] | None = None  # known once the trials have ended

    def wanted(self) -> bool:
        """Whether anything is left to confirm, and time to do it."""
        if self._left is None:
            self._left = deque(pending(self._journal, self._seeds))
        return bool(self._left) and not self.out_of_time

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next one as `WarmTrial` takes it, FINISHED, or None: ask again."""
        if self.held_back:
            return None
        if not self.wanted() or self.problem:
            return None if self._running and not self.problem and not self.out_of_time else Searcher.FINISHED
        assert self._left
        number, step, seed = self._running[trial_id] = self._left.popleft()
        train = plain(self._journal.spec, self._journal.trial(number), seed=seed)
        assert train is not None
        train["task"]["final"] = True
        return {"number": f"{number}-{step}-{seed}", "train": train, "recorded": 0, "until": step}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Only the last evaluation counts; of the others, that there are any."""
        self.heard()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Stores the last evaluation, or why there is none; what lost its process is tried again."""
        what, result = self._running.pop(trial_id, None), result or {}
        if what is None or self.problem:
            return
        death = self.deaths.pop(trial_id, Death("its process died")) if error else None
        self._died[what] += death is not None and not death.blameless
        try:
            self.heard(death)
            if death and self._died[what] <= self._retries:
                assert self._left is not None
                self._left.append(what)
            elif death or "failed" in result or result.get("finished"):
                self._store(what, result, death)
        except Exception as problem:
            self.problem = problem

    def _store(self, what: tuple[int, int, int], result: dict[str, Any], death: Death | None) -> None:
        outcome = _outcome(result, death)
        if "failed" in outcome:
            logger.error("trial %d, step %d, seed %d could not be confirmed: %s", *what, outcome["failed"])
        self._journal.confirm(*what, outcome)
        remove(self._folder / "trials" / "-".join(map(str, what)))


def pending(journal: Journal, seeds: int) -> list[tuple[int, int, int]]:
    """(trial, step, seed) of what is to be confirmed: what failed before is tried again."""
    snapshot = journal.snapshot()
    wanted = [
        (point.trial, point.step, FIRST_SEED + i)
        for i in range(seeds)
        for point in (*snapshot.points, *snapshot.control)
    ]
    return [each for each in wanted if "score" not in snapshot.confirmed.get(each, {})]


def _outcome(result: dict[str, Any], death: Death | None) -> dict[str, Any]:
    if death or "evaluation" not in result:
        return {"failed": death.reason if death else result.get("failed", "stopped")}
    values = result["evaluation"].to_dict()
    return {name: values[name] for name in ("score", "metrics", "adapter_params", "nonzero_params", "seconds")}
