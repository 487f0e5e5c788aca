"""The points of a front trained again with fresh seeds, each to the step at which it was found."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from ray.tune.search import Searcher

from autorank.results.journal import Journal
from autorank.search.searcher import Death

FOLDER = "confirm"  # of their checkpoints, in the search's folder
FIRST_SEED = 1_000  # ours: far from the seeds that people give searches


class ConfirmSearcher(Searcher):
    """Tune's searcher over what is still to be confirmed: every point of the fronts, the control's too, `seeds` times.

    They train on what the search trained on, and are scored on the task's own validation split.
    """

    def __init__(self, journal: Journal, seeds: int, retries: int = 3) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.out_of_time = False
        self.deaths: dict[str, Death] = {}
        self._journal, self._retries = journal, retries
        self._running: dict[str, tuple[int, int, int]] = {}
        self._died: Counter[tuple[int, int, int]] = Counter()
        self._left = deque(pending(journal, seeds))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next one as `WarmTrial` takes it, FINISHED, or None: ask again."""
        if not self._left or self.problem:
            return None if self._running and not self.problem else Searcher.FINISHED
        number, step, seed = self._running[trial_id] = self._left.popleft()
        trial, spec = self._journal.trial(number), self._journal.spec
        train = spec.train(trial.method, trial.config)
        train = train.model_copy(
            update={
                "task": train.task.model_copy(update={"final": True}),
                "training": train.training.model_copy(update={"seed": seed}),
            }
        )
        name = f"{number}-{step}-{seed}"
        return {"number": name, "train": train.model_dump(mode="json"), "recorded": 0, "until": step}

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: only the last evaluation counts."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Stores the last evaluation, or why there is none; what lost its process is tried again."""
        what = self._running.pop(trial_id, None)
        if what is None or self.problem:
            return
        death = self.deaths.pop(trial_id, Death("its process died")) if error else None
        self._died[what] += death is not None and not death.preempted
        if death and self._died[what] <= self._retries:
            self._left.append(what)
            return
        try:
            self._journal.confirm(*what, _outcome(result or {}, death))
        except Exception as problem:
            self.problem = problem

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see JournalSearcher


def pending(journal: Journal, seeds: int) -> list[tuple[int, int, int]]:
    """(trial, step, seed) of what is to be confirmed and was not yet."""
    snapshot = journal.snapshot()
    wanted = [
        (point.trial, point.step, FIRST_SEED + i)
        for i in range(seeds)
        for point in (*snapshot.points, *snapshot.control)
    ]
    return [each for each in wanted if each not in snapshot.confirmed]


def _outcome(result: dict[str, Any], death: Death | None) -> dict[str, Any]:
    if "evaluation" not in result:
        return {"failed": death.reason if death else result.get("failed", "stopped")}
    values = result["evaluation"].to_dict()
    return {name: values[name] for name in ("score", "metrics", "adapter_params", "nonzero_params", "seconds")}
