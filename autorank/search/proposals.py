"""Settings for one method's trials, proposed by an Optuna sampler that is told what is known of the earlier ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import median
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from autorank.method import find
from autorank.results.front import excesses
from autorank.results.records import TrialRecord, best
from autorank.search import ranges, space
from autorank.search.samplers import make_sampler
from autorank.search.sizes import Bounds, extremes
from autorank.spec import MethodSpec, SearchSpec

RECENT = 200  # trials from which it is learnt what a stopped one was to gain


class Proposals:
    """A study in memory, rebuilt from a journal's records: what a sampler believes of a trial is no record of it.

    Each proposal has a seed of its own, made of the search's seed and the trial's number, so that a search that was
    cut off proposes what it would have proposed. A stopped trial is told with the score that it was expected to
    reach (see `expected`): as stopped alone it would pass for the worst there is, with its score of the moment for
    worse than it is. A failed one is left out.
    """

    def __init__(self, spec: SearchSpec, entry: MethodSpec, first: Sequence[dict[str, Any]] = ()) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec, self._entry, self._first = spec, entry, first
        self._study = optuna.create_study(directions=["minimize", "maximize"])
        self._distributions = distributions(entry)
        self._running: dict[int, Trial] = {}  # by the record's number
        self._had = 0

    def propose(self, number: int, attempt: int = 0) -> Trial:
        """Settings for trial `number`, as a trial of the study; those of a later attempt are random."""
        seed = int.from_bytes(hashlib.sha256(f"{self._spec.seed}:{number}:{attempt}".encode()).digest()[:4])
        self._study.sampler = RandomSampler(seed) if attempt else make_sampler(self._spec.sampler, seed)
        if not attempt and self._had < len(self._first):
            self._study.enqueue_trial(self._first[self._had])
        trial = self._study.ask()
        space.suggest(self._entry.space, trial)
        return trial

    def accept(self, number: int, proposal: Trial) -> None:
        """The proposal became trial `number`: until it ends, samplers count it as running."""
        self._running[number] = proposal
        self._had += 1

    def reject(self, proposal: Trial) -> None:
        """The proposal came to nothing."""
        self._study.tell(proposal, state=TrialState.FAIL)

    def learn(self, trial: TrialRecord) -> None:
        """An accepted trial has ended."""
        proposal = self._running.pop(trial.number)
        for limit, excess in self._limits(trial).items():
            proposal.set_constraint(limit, excess)
        self._study.tell(proposal, trial.told, TrialState.COMPLETE if trial.told else TrialState.FAIL)

    def restore(self, trial: TrialRecord) -> None:
        """A trial of an earlier session; to be called in their order."""
        state = TrialState.RUNNING if trial.state == "running" else TrialState.COMPLETE
        if state == TrialState.COMPLETE and trial.told is None:
            state = TrialState.FAIL
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state, values=trial.told if state == TrialState.COMPLETE else None, params=trial.drawn,
                distributions={name: self._distributions[name] for name in trial.drawn},
                constraints=self._limits(trial) if state == TrialState.COMPLETE else None,
            )
        )  # fmt: skip
        if state == TrialState.RUNNING:
            self._running[trial.number] = Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        self._had += 1

    def _limits(self, trial: TrialRecord) -> dict[str, float]:
        """By how much a trial's best evaluation breaks each limit of the search."""
        top = best(trial.evaluations)
        return excesses(top, self._spec.objectives) if top else {}


def first_settings(entry: MethodSpec, bounds: Bounds) -> list[dict[str, Any]]:
    """The first trials of a method: its own defaults, and these with the smallest and the largest adapter.

    So both ends of the front are measured early, whatever the sampler draws (ours). A default that lies outside its
    range leaves that setting to the sampler.
    """
    fields = find(entry.method).Config.model_fields
    defaults = {
        name: fields[name].default
        for name, each in entry.space.items()
        if ranges.contains(each, fields[name].default)
    }
    return [defaults, *({**defaults, **ends} for ends in extremes(entry, bounds))]


def expected(trial: TrialRecord, params: float, others: Sequence[TrialRecord]) -> tuple[float, float] | None:
    """What samplers learn of a stopped trial: the parameters that it was to end with, and the score it was to reach.

    That is its best score so far plus what its method's complete trials gained (the median) after as many evaluations,
    but no more than the best that was measured with no more parameters: it was beaten, and no estimate must seem better
    than what beat it. Nothing if it has no score.
    """
    top = best(trial.evaluations)
    if top is None:
        return None
    at = len(trial.evaluations)
    peers = [other for other in others[-RECENT:] if other.method == trial.method and other.number != trial.number]
    gains = [
        other.told[1] - sofar.score
        for other in peers
        if other.state == "complete" and other.told and (sofar := best(other.evaluations[:at]))
    ]
    measured = [e.score for other in peers for e in other.evaluations if e.adapter_params <= params]
    reached = top.score + (median(gains) if gains else 0.0)
    return params, max(top.score, min(reached, max(measured, default=reached)))


def distributions(entry: MethodSpec) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distribution of each range."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, each in entry.space.items():
        trial = optuna.trial.FixedTrial({name: ranges.ends(each)[0]})
        ranges.draw(name, each, trial)  # type: ignore[arg-type]
        found |= trial.distributions
    return found
