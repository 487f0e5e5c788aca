"""Display without a terminal: one line per trial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from typing_extensions import override

from autorank.display.base import Display, Locations
from autorank.display.formatting import new_confirmations, sampled, title
from autorank.display.summary import finish
from autorank.reporting.tables import count
from autorank.spec import SearchSpec
from autorank.training.evaluation import best
from autorank.trials.record import TrialRecord, ended_trials
from autorank.trials.snapshot import Confirmations, Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


class Lines(Display):
    """Prints one line for each trial that ends from now on, and for each confirmation.

    Args:
        console: The console.
        spec: The search.
        locations: Where it is stored.
        suggest_commands: Print suggested commands at the end.
    """

    def __init__(self, console: Console, spec: SearchSpec, locations: Locations, suggest_commands: bool) -> None:
        self._console, self._spec, self._locations, self._suggest_commands = console, spec, locations, suggest_commands
        self._started = time.time()
        self._printed: set[int] = set()
        self._confirmed: Confirmations | None = None

    def __enter__(self) -> Lines:
        self._line(title(self._spec).plain)
        return self

    @override
    def update(self, snapshot: Snapshot) -> None:
        ended = sorted(ended_trials(snapshot.trials), key=lambda trial: trial.ended)
        for number, trial in enumerate(ended, start=1):
            if trial.ended >= self._started and trial.number not in self._printed:
                self._printed.add(trial.number)
                self._line(f"[{number}/{snapshot.requested}] trial {trial.number} {self._summary(trial)}")
        for key, result in new_confirmations(
            snapshot.confirmed if self._confirmed is None else self._confirmed, snapshot.confirmed
        ):
            score = f"score {result['score']:.4f}" if "score" in result else f"failed: {result['failed']}"
            point = "trial {}, step {}, {:,} parameters".format(*key)
            self._line(f"{point} confirmed with seed {key[-1]}: {score}")
        self._confirmed = snapshot.confirmed

    @override
    def inform(self, message: str) -> None:
        self._line(message)

    @override
    def end(self, outcome: Outcome) -> None:
        finish(self._console, self._spec, outcome, self._locations, self._suggest_commands)

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _summary(self, trial: TrialRecord) -> str:
        top = best(trial.evaluations)
        result = f"{count(top.adapter_params)} parameters, score {top.score:.4f}" if top else "no score"
        reason = f" ({trial.reason})" if trial.reason else ""
        method = f"{trial.method}, " if len(self._spec.entries) > 1 else ""
        return f"{trial.state}{reason}: {result}  {method}{sampled(trial)}"
