"""Settings for one method's trials, proposed by an Optuna sampler that is told what is known of the earlier ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from autorank.methods import find
from autorank.searching.sampling.samplers import make_sampler
from autorank.searching.space import ranges, space
from autorank.searching.space.param_bounds import Bounds, largest, resizing, smallest
from autorank.spec import MethodSpec, SearchSpec
from autorank.trials import optuna_logging
from autorank.trials.record import TrialRecord
from autorank.trials.serialization import GENERATION


class OptunaStudy:
    """A study in memory, rebuilt from a journal's records: what a sampler believes of a trial is no record of it.

    Each proposal has a seed of its own, made of the search's seed and the trial's number, so that a search that was
    cut off proposes what it would have proposed. Its objective is the value of a trial's curve (see `curve_value`). A
    stopped trial has the value that it was expected to reach: with that of the moment it would pass for worse than it
    is. A failed one is left out.
    """

    def __init__(self, spec: SearchSpec, entry: MethodSpec, first: Sequence[dict[str, Any]] = ()) -> None:
        self._spec, self._entry, self._first = spec, entry, first
        minimize, maximize = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        third = [] if spec.objectives.third is None else [minimize]
        with optuna_logging.quiet():
            self._study = optuna.create_study(directions=[maximize, *third])
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
        values = trial.sampler_values
        self._study.tell(proposal, values, TrialState.COMPLETE if values else TrialState.FAIL)

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
                system_attrs=trial.generation,
            )
        )  # fmt: skip
        if state == TrialState.RUNNING:
            self._running[trial.number] = Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        self._had += 1


def first_settings(entry: MethodSpec, bounds: Bounds, sliced: bool) -> list[dict[str, Any]]:
    """Return the settings of a method's first trials: its defaults, and these with the largest adapter (ours).

    The largest adapter has slices of all sizes (docs/benchmarks.md has the figures). A method whose adapters are not
    sliced begins with its smallest adapter instead: a front has most of its hypervolume there.

    Args:
        entry: the method and its space.
        bounds: of adapter parameters.
        sliced: whether the method's adapters are sliced in this search.

    Returns:
        The searched settings of each trial. A default that lies outside its range leaves that setting to the sampler.
    """
    corner = largest(entry, bounds) if sliced else smallest(entry, bounds)
    fields = find(entry.method).Config.model_fields
    defaults = {
        name: fields[name].default for name, each in entry.space.items() if ranges.contains(each, fields[name].default)
    }
    return [defaults, {**defaults, **resizing(entry, bounds, corner)}]


def distributions(entry: MethodSpec) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distribution of each range."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, each in entry.space.items():
        trial = optuna.trial.FixedTrial({name: ranges.ends(each)[0]})
        ranges.draw(name, each, trial)  # type: ignore[arg-type]
        found |= trial.distributions
    return found
