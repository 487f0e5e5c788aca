"""Settings for one method's trials, proposed by an Optuna sampler."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from autorank.searching.sampling.samplers import make_sampler
from autorank.searching.sampling.warm_start import default_settings
from autorank.searching.space.param_bounds import Bounds, largest, size_determining_settings, smallest
from autorank.spec import MethodSpec, SearchSpec
from autorank.trials import optuna_logging
from autorank.trials.distributions import distributions
from autorank.trials.journal.serialization import GENERATION_SUFFIX
from autorank.trials.record import TrialRecord


class OptunaStudy:
    """A study in memory, rebuilt from the journal's records: the values that a sampler learns are not measurements.

    The objective is the value of a trial's curve (see `curve_value`). Failed trials are left out. Each proposal has its
    own seed, derived from the search's seed and the trial's number, so that an interrupted search proposes what it
    would have proposed.

    Args:
        spec: The search.
        entry: The method and its space.
        first: Settings of the method's first trials.
    """

    def __init__(self, spec: SearchSpec, entry: MethodSpec, first: Sequence[dict[str, Any]] = ()) -> None:
        self._spec = spec
        self._first = [settings for i, settings in enumerate(first) if settings not in first[:i]]
        self._study = self._new_study()
        self._distributions = distributions(entry)
        self._running: dict[int, int] = {}  # number of the record -> number in the study
        self._count = 0

    def _new_study(self) -> optuna.Study:
        minimize, maximize = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        has_third = self._spec.objectives.third_objective is not None
        with optuna_logging.quiet():
            return optuna.create_study(directions=[maximize, minimize] if has_third else [maximize])

    @property
    def has_first_settings(self) -> bool:
        """Whether the next trial is one of the method's first trials, whose settings are given."""
        return self._count < len(self._first)

    def propose(self, number: int, attempt: int = 0) -> Trial:
        """Return settings for trial `number`, as a trial of the study; from the second attempt on they are random."""
        seed = int.from_bytes(hashlib.sha256(f"{self._spec.seed}:{number}:{attempt}".encode()).digest()[:4])
        self._study.sampler = RandomSampler(seed) if attempt else make_sampler(self._spec.sampler, seed)
        if not attempt and self.has_first_settings:
            self._study.enqueue_trial(self._first[self._count])
        return self._study.ask(self._distributions)

    def sampler_attributes(self, proposal: Trial) -> dict[str, Any]:
        """Return the attributes that a genetic sampler gave a proposal."""
        attributes = self._study.get_trials(deepcopy=False)[proposal.number].system_attrs
        return {name: value for name, value in attributes.items() if name.endswith(GENERATION_SUFFIX)}

    def accept(self, number: int, proposal: Trial) -> None:
        """Make a proposal trial `number`: until it ends, samplers count it as running."""
        self._running[number] = proposal.number
        self._count += 1

    def reject(self, proposal: Trial) -> None:
        """Drop a proposal."""
        self._study.tell(proposal, state=TrialState.FAIL)

    def learn(self, trial: TrialRecord) -> None:
        """Tell the sampler that an accepted trial has ended."""
        proposal = self._running.pop(trial.number)
        values = trial.sampler_values
        self._study.tell(proposal, values, TrialState.COMPLETE if values else TrialState.FAIL)

    def restore(self, trial: TrialRecord) -> None:
        """Add a trial of an earlier session. Call it for all of them, in their order."""
        state = TrialState.RUNNING if trial.state == "running" else TrialState.COMPLETE
        if state == TrialState.COMPLETE and trial.sampler_values is None:
            state = TrialState.FAIL
        values = trial.sampler_values if state == TrialState.COMPLETE else None
        self._add(trial.sampled, state, values, trial.sampler_attributes)
        if state == TrialState.RUNNING:
            self._running[trial.number] = self._study.get_trials(deepcopy=False)[-1].number
        self._count += 1

    def _add(
        self, params: dict[str, Any], state: TrialState, values: Sequence[float] | None,
        attributes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        distributions = {name: self._distributions[name] for name in params}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state, values=values, params=params, distributions=distributions, system_attrs=attributes or {}
            )
        )


def first_settings(entry: MethodSpec, bounds: Bounds, sliced: bool) -> list[dict[str, Any]]:
    """Return the settings of a method's first trials: its defaults, and these with the largest adapter (ours).

    The largest adapter has slices of all sizes (docs/benchmarks.md has the figures). A method whose adapters are not
    sliced begins with its smallest adapter instead: a front has most of its hypervolume there.

    Args:
        entry: The method and its space.
        bounds: Bounds on the number of adapter parameters.
        sliced: Whether the method's adapters are sliced in this search.

    Returns:
        The searched settings of each trial. A default that lies outside its range leaves that setting to the sampler.
    """
    corner = largest(entry, bounds) if sliced else smallest(entry, bounds)
    defaults = default_settings(entry)
    return [defaults, {**defaults, **size_determining_settings(entry, bounds, corner)}]
