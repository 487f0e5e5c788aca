"""Settings for one method's trials, proposed by an Optuna sampler that is told what is known of the earlier ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from autorank.methods import find
from autorank.searching.early_stopping.policy import BEATEN, Stopping
from autorank.searching.sampling.samplers import make_sampler
from autorank.searching.space import ranges, space
from autorank.searching.space.param_bounds import Bounds, resizing, smallest
from autorank.spec import MethodSpec, SearchSpec
from autorank.training.evaluation import Evaluation, best
from autorank.trials import optuna_logging
from autorank.trials.front import excesses, points_of, third_of
from autorank.trials.record import TrialRecord
from autorank.trials.serialization import GENERATION

RECENT = 200  # trials from which it is learnt what a stopped one was to gain


class Proposals:
    """A study in memory, rebuilt from a journal's records: what a sampler believes of a trial is no record of it.

    Each proposal has a seed of its own, made of the search's seed and the trial's number, so that a search that was
    cut off proposes what it would have proposed. A stopped trial is told with the score that it was expected to
    reach (see `learnt`): as stopped alone it would pass for the worst there is, with its score of the moment for
    worse than it is. A failed one is left out.
    """

    def __init__(self, spec: SearchSpec, entry: MethodSpec, first: Sequence[dict[str, Any]] = ()) -> None:
        self._spec, self._entry, self._first = spec, entry, first
        minimize, maximize = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        third = [] if spec.objectives.third is None else [minimize]
        with optuna_logging.quiet():
            self._study = optuna.create_study(directions=[minimize, maximize, *third])
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

    def generation(self, proposal: Trial) -> dict[str, Any]:
        """What a genetic sampler noted of a proposal."""
        noted = self._study.get_trials(deepcopy=False)[proposal.number].system_attrs
        return {name: value for name, value in noted.items() if name.endswith(GENERATION)}

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
        self._study.tell(
            proposal, trial.sampler_values, TrialState.COMPLETE if trial.sampler_values else TrialState.FAIL
        )

    def restore(self, trial: TrialRecord) -> None:
        """A trial of an earlier session; to be called in their order."""
        state = TrialState.RUNNING if trial.state == "running" else TrialState.COMPLETE
        if state == TrialState.COMPLETE and trial.sampler_values is None:
            state = TrialState.FAIL
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=trial.sampler_values if state == TrialState.COMPLETE else None,
                params=trial.sampled,
                distributions={name: self._distributions[name] for name in trial.sampled},
                constraints=self._limits(trial) if state == TrialState.COMPLETE else None,
                system_attrs=trial.generation,
            )
        )  # fmt: skip
        if state == TrialState.RUNNING:
            self._running[trial.number] = Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        self._had += 1

    def _limits(self, trial: TrialRecord) -> dict[str, float]:
        """By how much a trial breaks each limit of the search, by what is told of it."""
        top = best(trial.evaluations)
        if top is None or trial.sampler_values is None:
            return {}
        whole = points_of(trial, top)[0]
        expected = replace(whole, adapter_params=round(trial.sampler_values[0]), score=trial.sampler_values[1])
        return excesses(expected, self._spec.objectives)


def first_settings(entry: MethodSpec, bounds: Bounds) -> list[dict[str, Any]]:
    """The first trials of a method: its own defaults, and these with the smallest adapter.

    So the end where a front has most of its hypervolume is measured early, whatever the sampler draws (ours). Its other
    end is left to the sampler: with the largest adapter too, searches need a quarter more training to be where stock
    OptunaSearch ends (docs/benchmarks.md). A default that lies outside its range leaves that setting to the sampler.
    """
    fields = find(entry.method).Config.model_fields
    defaults = {
        name: fields[name].default for name, each in entry.space.items() if ranges.contains(each, fields[name].default)
    }
    return [defaults, {**defaults, **resizing(entry, bounds, smallest(entry, bounds))}]


def learnt(
    trial: TrialRecord, stopping: Stopping, others: Sequence[TrialRecord], spec: SearchSpec
) -> tuple[float, ...] | None:
    """What samplers learn of a trial that has ended: parameters, score and third objective; nothing without a score.

    Of one that was stopped: the parameters that it was to end with, and the score that it was to reach. That is its
    best score so far plus what its method's complete trials gained (the median) after as many evaluations. One that was
    beaten reaches no more than the best that was measured with no more parameters: no estimate must seem better than
    what beat it. The third objective grows in proportion to theirs.
    """
    top = best(trial.evaluations)
    if top is None:
        return None
    third = spec.objectives.third
    params, score = float(top.adapter_params), top.score
    costs = [] if third is None else [third_of(top, third)]
    if not trial.finished:
        params = stopping.target(trial)
        peers = [other for other in others[-RECENT:] if other.method == trial.method and other.number != trial.number]
        ahead = [
            (sofar, ended)
            for other in peers
            if other.state == "complete" and (ended := best(other.evaluations))
            if (sofar := best(other.evaluations[: len(trial.evaluations)]))
        ]
        reached = score + median([ended.score - sofar.score for sofar, ended in ahead] or [0.0])
        most = _best_within(params, peers) if trial.stop_reason == BEATEN else None
        score = reached if most is None else max(score, min(reached, most))
        costs = [cost * median([_growth(*pair, str(third)) for pair in ahead] or [1.0]) for cost in costs]
    return params, score, *costs


def _best_within(params: float, trials: Sequence[TrialRecord]) -> float | None:
    """The best score that was measured with no more than so many parameters."""
    measured = [e.score for trial in trials for e in trial.evaluations if e.adapter_params <= params]
    return max(filter(math.isfinite, measured), default=None)


def _growth(sofar: Evaluation, ended: Evaluation, third: str) -> float:
    before = third_of(sofar, third)
    return third_of(ended, third) / before if before else 1.0


def distributions(entry: MethodSpec) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distribution of each range."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, each in entry.space.items():
        trial = optuna.trial.FixedTrial({name: ranges.ends(each)[0]})
        ranges.draw(name, each, trial)  # type: ignore[arg-type]
        found |= trial.distributions
    return found
