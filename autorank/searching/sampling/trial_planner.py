"""Chooses method and settings of the next trial, which depend only on the journal and the search's seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial

from autorank import methods
from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.searching.sampling.method_allocation import next_method
from autorank.searching.sampling.optuna_study import OptunaStudy, first_settings
from autorank.searching.sampling.warm_study import WarmStudy
from autorank.searching.space.param_bounds import Bounds, LengthCheck, any_length, largest, sliced, smallest
from autorank.spec import MethodSpec
from autorank.trials import optuna_logging
from autorank.trials.distributions import distributions
from autorank.trials.journal.journal import Journal
from autorank.trials.record import TrialRecord

ATTEMPTS = 200  # draws before a method's space counts as exhausted


class TrialPlanner:
    """Begins trials in a journal.

    Settings are sampled again if there was a trial with them, if their adapters are too large, or if they need longer
    runs.

    Args:
        journal: Open for writing.
        bounds: Bounds on the number of adapter parameters.
        check_length: Check of the run length.
    """

    def __init__(self, journal: Journal, bounds: Bounds, check_length: LengthCheck = any_length) -> None:
        self._journal, self._spec, self._bounds, self._check_length = journal, journal.spec, bounds, check_length
        self._studies = {entry.method: self._study(entry) for entry in self._spec.entries}
        self._untried = set(self._studies)  # methods with settings that were not tried
        self._seen: set[str] = set()
        for trial in journal.trials():
            self._seen.add(_key(trial.method, trial.settings))
            self._studies[trial.method].restore(trial)

    def _study(self, entry: MethodSpec) -> OptunaStudy:
        first = first_settings(entry, self._bounds, sliced(self._spec, entry.method))
        earlier = [trial for trial in self._spec.warm_start if trial.method == entry.method]
        if any(not trial.from_catalogue for trial in earlier):
            return WarmStudy(self._spec, entry, earlier, first)
        return OptunaStudy(self._spec, entry, [*(trial.settings for trial in earlier), *first])

    def begin(self) -> TrialRecord | None:
        """Begin the next trial in the journal and return it; None if all methods are exhausted."""
        while any(entry.method in self._untried for entry in self._spec.methods):
            snapshot = self._journal.snapshot()
            front = {point.trial for point in snapshot.points}
            entry = next_method(self._spec, snapshot.trials, front, self._untried)
            if (trial := self._begin(entry, len(snapshot.trials))) is not None:
                return trial
            self._untried.discard(entry.method)
        return None

    def learn(self, trial: TrialRecord) -> None:
        """Tell the sampler of a trial's method that the trial has ended."""
        self._studies[trial.method].learn(trial)

    def _begin(self, entry: MethodSpec, number: int) -> TrialRecord | None:
        """Begin a trial with new settings; None if there are none. A trial that the method refuses fails at once."""
        study = self._studies[entry.method]
        for attempt in range(ATTEMPTS):
            proposal = study.propose(number, attempt)
            settings: dict[str, Any] = entry.settings | proposal.params
            method = refusal = None
            try:
                method = methods.configure(entry.method, settings)
                settings = method.config.model_dump(mode="json")
            except AutorankError as error:
                refusal = str(error)
            key = _key(entry.method, settings)
            if key in self._seen or (method is not None and not self._fits(entry, method, settings)):
                study.reject(proposal)
                continue
            self._seen.add(key)
            baseline = entry is self._spec.baseline
            sampler_attributes = study.sampler_attributes(proposal)
            fixed = not attempt and study.has_first_settings
            trial = self._journal.begin(entry.method, settings, _sampled(proposal), baseline, sampler_attributes, fixed)
            study.accept(number, proposal)
            if refusal:
                trial = self._journal.finish(number, "failed", " ".join(refusal.split()))
                study.learn(trial)
            return trial
        return None

    def _fits(self, entry: MethodSpec, method: AllocationMethod[Any], settings: dict[str, Any]) -> bool:
        """Whether the adapter or its slices may be small enough, and the search's runs are long enough."""
        spec, limit = self._spec, self._spec.objectives.max_params
        if limit is not None and not sliced(spec, entry.method) and self._bounds(entry.method, settings)[0] > limit:
            return False
        try:
            self._check_length(method)
        except AutorankError:
            return False
        return True


def fitting_settings(entry: MethodSpec, bounds: Bounds, check_length: LengthCheck) -> dict[str, Any]:
    """Return settings for which the search's runs are long enough.

    Args:
        entry: The method and its space.
        bounds: Bounds on the number of adapter parameters.
        check_length: Check of the run length.

    Returns:
        The settings of the largest adapter if they fit, else those of the smallest if they fit, else random ones.

    Raises:
        AutorankError: All of them are refused.
    """
    refusal = None
    for settings in _candidates(entry, bounds):
        try:
            check_length(methods.configure(entry.method, settings))
        except AutorankError as error:
            refusal = error
        else:
            return settings
    raise AutorankError(f"No setting in the space of {entry.method} fits runs of this length. {refusal}")


def _candidates(entry: MethodSpec, bounds: Bounds) -> Iterator[dict[str, Any]]:
    yield largest(entry, bounds)
    yield smallest(entry, bounds)
    with optuna_logging.quiet():
        study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(ATTEMPTS):
        yield entry.settings | study.ask(distributions(entry)).params


def _sampled(proposal: Trial) -> dict[str, Any]:
    return {name: (value, proposal.distributions[name]) for name, value in proposal.params.items()}


def _key(method: str, settings: dict[str, Any]) -> str:
    return json.dumps([method, settings], sort_keys=True)
