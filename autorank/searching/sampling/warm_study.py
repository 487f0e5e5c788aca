"""A sampler that starts from trials of earlier searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import Trial, TrialState

from autorank.searching.sampling.optuna_study import OptunaStudy
from autorank.searching.sampling.warm_start import mid_ranks
from autorank.spec import EarlierTrial, MethodSpec, SearchSpec
from autorank.trials.record import TrialRecord

EARLIER_TRIALS_REPLACED = 2  # by each trial of this search (ours; docs/benchmarks.md has the figures)


class WarmStudy(OptunaStudy):
    """A study of the trials of earlier searches and of this search.

    Values of different tasks cannot be compared, so the sampler receives the rank of each trial within its own search.
    Ranks change with each trial that ends, so the study is created again for each proposal. Each trial of this search
    that ends replaces `EARLIER_TRIALS_REPLACED` earlier ones, because what was good on another task may be bad on this
    one.

    Args:
        spec: The search.
        entry: The method and its space.
        earlier: Earlier trials of the method.
        first: Settings of the method's first trials, after those of earlier trials that are to be tried first.
    """

    def __init__(
        self, spec: SearchSpec, entry: MethodSpec, earlier: Sequence[EarlierTrial], first: Sequence[dict[str, Any]]
    ) -> None:
        super().__init__(spec, entry, [*(trial.settings for trial in earlier if trial.first), *first])
        self._earlier = earlier
        self._open: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # number -> parameters, sampler's attributes
        self._ended: list[TrialRecord] = []

    def propose(self, number: int, attempt: int = 0) -> Trial:
        """Return settings for trial `number`; see `OptunaStudy.propose`."""
        self._study = self._new_study()
        for trial in self._earlier[: max(0, len(self._earlier) - EARLIER_TRIALS_REPLACED * len(self._ended))]:
            if len(trial.ranks) == len(self._study.directions):
                self._add(trial.settings, TrialState.COMPLETE, list(trial.ranks))
        scored = [trial for trial in self._ended if trial.sampler_values is not None]
        columns = [mid_ranks(column) for column in zip(*(trial.sampler_values or () for trial in scored), strict=True)]
        for trial, *values in zip(scored, *columns, strict=True):
            self._add(trial.sampled, TrialState.COMPLETE, values, trial.sampler_attributes)
        for params, sampler_attributes in self._open.values():
            self._add(params, TrialState.RUNNING, None, sampler_attributes)
        return super().propose(number, attempt)

    def accept(self, number: int, proposal: Trial) -> None:
        """Make a proposal trial `number`."""
        self._open[number] = proposal.params, self.sampler_attributes(proposal)
        self._count += 1

    def learn(self, trial: TrialRecord) -> None:
        """Add an accepted trial that has ended."""
        del self._open[trial.number]
        self._ended.append(trial)

    def restore(self, trial: TrialRecord) -> None:
        """Add a trial of an earlier session."""
        if trial.state == "running":
            self._open[trial.number] = trial.sampled, trial.sampler_attributes
        else:
            self._ended.append(trial)
        self._count += 1
