"""The journal of a search: an append-only Optuna journal in its directory, from which all other results are derived.

One process, the driver of the search, writes; any number of processes may read, such as `optuna-dashboard`. An
interrupted trial stays RUNNING under its number until a driver resumes and finishes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState
from pydantic import ValidationError

from autorank.errors import AutorankError, explain
from autorank.spec import SearchSpec
from autorank.training.evaluation import Evaluation, best
from autorank.trials.journal.journal_file import JOURNAL, JournalFile, no_search
from autorank.trials.journal.journal_lock import DriverLock
from autorank.trials.journal.serialization import (
    CONFIRMED,
    EVALUATION,
    STATES,
    EvaluationSerializer,
    confirmations,
    reference_point,
)
from autorank.trials.journal.study_metadata import write_study
from autorank.trials.record import State, TrialRecord
from autorank.trials.snapshot import IncrementalFront, Snapshot
from autorank.trials.statistics import predictions

PROVENANCE = ("versions", "revision", "data")  # a study's user attributes


class Journal:
    """Trials of a search: settings, states and evaluations. Use `create` or `open`; a context manager.

    Attributes:
        spec: The search.
        reference: (params, score), the reference point of the hypervolume.
        truncated_bytes: Bytes of an incomplete last line, which is ignored; 0 if there is none.
    """

    def __init__(
        self, backend: BaseJournalBackend, folder: Path, lock: DriverLock | None = None, truncated_bytes: int = 0
    ) -> None:
        self.folder, self.truncated_bytes = folder, truncated_bytes
        self._lock = lock
        try:
            self._storage = JournalStorage(backend)
            if not (studies := self._storage.get_all_studies()):
                raise ValueError("it is empty")
            self._study = studies[0]._study_id
            # read the trials first: a running driver stores layer names before a trial refers to them
            trials = self._storage.get_all_trials(self._study, deepcopy=False)
            attributes: dict[str, Any] = self._storage.get_study_user_attrs(self._study)
            self.spec = SearchSpec.model_validate(attributes["spec"])
            self.reference = reference_point(attributes["reference"])
            self._confirmed = confirmations(attributes)
            self._options: dict[str, int] = dict(attributes.get("options", {}))
            self._provenance = {name: attributes[name] for name in PROVENANCE if name in attributes}
            self._serializer = EvaluationSerializer(attributes.get("layers", []))
            self._ids = [trial._trial_id for trial in trials]
            self._records = [self._serializer.read(trial) for trial in trials]
            self._fronts = IncrementalFront(self.spec.objectives, self._records)
        except ValidationError as error:
            raise explain(error, f"the search in {folder} (made by another version of autorank?)") from error
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:  # the last is Optuna's
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error) or "an entry is not valid"
            raise AutorankError(
                f"The journal {folder / JOURNAL} cannot be read: {reason}. Restore the file from a backup, or remove "
                f"{folder} and start the search again."
            ) from error

    @classmethod
    def create(cls, folder: Path, spec: SearchSpec, reference: tuple[float, float]) -> Journal:
        """Create a search in `folder` and open it for writing.

        Args:
            folder: Directory of the search; created if missing.
            spec: The search.
            reference: Reference point of the hypervolume (parameters, score).

        Returns:
            The open journal.

        Raises:
            AutorankError: `folder` already contains a search, or another driver is running it.
        """
        folder = Path(folder).absolute()  # not resolved: the directory may be a link to another disk
        folder.mkdir(parents=True, exist_ok=True)
        lock = DriverLock(folder / JOURNAL)
        lock.take()
        try:
            if (folder / JOURNAL).exists():
                raise AutorankError(
                    f"{folder.parent} already contains a search {folder.name!r}. "
                    f"Continue it with `autorank resume {folder.name}`, or choose another --name."
                )
            # write to a draft and rename it, so that readers never see a journal without its spec
            draft = folder / f"{JOURNAL}.new"
            draft.unlink(missing_ok=True)
            write_study(JournalFile(draft, lock), spec, reference)
            draft.rename(folder / JOURNAL)
            return cls(JournalFile(folder / JOURNAL, lock), folder, lock)
        except BaseException:
            lock.drop()
            raise

    @classmethod
    def open(cls, folder: Path, write: bool = False) -> Journal:
        """Open the search in the directory `folder`: with `write` as its only driver, otherwise for reading.

        Raises:
            AutorankError: `folder` contains no search, the journal cannot be read, or another driver is running it.
        """
        folder = Path(folder).absolute()  # not resolved: the directory may be a link to another disk
        if not (folder / JOURNAL).is_file():
            raise no_search(folder)
        lock = DriverLock(folder / JOURNAL)
        if write:
            lock.take()
        try:
            truncated_bytes = lock.remove_incomplete_line() if write else 0
            return cls(JournalFile(folder / JOURNAL, lock), folder, lock, truncated_bytes)
        except BaseException:
            lock.drop()
            raise

    def close(self) -> None:
        """Release the lock, so that another driver can open the journal for writing."""
        if self._lock is not None:
            self._lock.drop()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def search_id(self) -> str:
        """Unique identifier of the search, also among searches of the same name."""
        return self._storage.get_study_name_from_id(self._study)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the last run, reused on resume: `trials`, `confirm`, optionally `storage` and `tracking`."""
        return self._options

    def set_options(self, **options: Any) -> None:
        """Store the options of this run."""
        if options != self._options:
            self._storage.set_study_user_attr(self._study, "options", options)
            self._options = options

    @property
    def provenance(self) -> dict[str, Any]:
        """Package `versions`, and git `revision` and the description of the `data` if known."""
        return self._provenance

    def store_data_description(self, data: Mapping[str, Any]) -> None:
        """Store what `provenance.data_description` returns, unless it was stored by an earlier session."""
        if "data" not in self._provenance:
            self._storage.set_study_user_attr(self._study, "data", dict(data))
            self._provenance["data"] = dict(data)

    def has_same_data(self, data: Mapping[str, Any]) -> bool:
        """Return whether a description of the data equals the stored one."""
        return bool(self._provenance["data"] == data)

    def trials(self) -> list[TrialRecord]:
        """Every trial that was started, by number."""
        return list(self._records)

    def trial(self, number: int) -> TrialRecord:
        """The trial `number`."""
        return self._records[number]

    def snapshot(self) -> Snapshot:
        """All trials and their fronts."""
        return Snapshot(
            self.trials(), self._fronts.points, self._fronts.baseline, self._confirmed,
            self._options.get("trials", 0), self.spec.objectives, self.reference, self.folder,
        )  # fmt: skip

    def begin(
        self, method: str, settings: dict[str, Any], sampled: Mapping[str, tuple[Any, BaseDistribution]],
        baseline: bool = False, sampler_attributes: Mapping[str, Any] | None = None, fixed: bool = False,
    ) -> TrialRecord:  # fmt: skip
        """Start a trial. It is written atomically, in one line.

        Args:
            method: Name of the method.
            settings: All settings: sampled, fixed and default ones.
            sampled: Setting -> its sampled value and distribution.
            baseline: Whether it is a trial of the baseline.
            sampler_attributes: Attributes of a genetic sampler.
            fixed: Whether it is one of the method's first trials, whose settings are not sampled.

        Returns:
            The running trial.
        """
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={name: value for name, (value, _) in sampled.items()},
            distributions={name: distribution for name, (_, distribution) in sampled.items()},
            system_attrs=dict(sampler_attributes or {}),
            user_attrs={"method": method, "settings": settings}
            | {name: True for name, value in (("baseline", baseline), ("fixed", fixed)) if value},
        )
        self._ids.append(self._storage.create_new_trial(self._study, template))
        self._records.append(self._serializer.read(self._storage.get_trial(self._ids[-1])))
        return self._records[-1]

    def record(self, number: int, evaluation: Evaluation, last: bool = False, stop_reason: str | None = None) -> bool:
        """Store an evaluation of a running trial, and its predictions in a file.

        Args:
            number: Number of the trial.
            evaluation: The evaluation.
            last: Whether it is the last evaluation of the run.
            stop_reason: Why the trial stops after it; None if it continues.

        Returns:
            False if the evaluation is already stored.
        """
        trial = self._records[number]
        if evaluation.step <= trial.step:
            return False
        row, layers = self._serializer.write(evaluation)
        if layers is not None:
            self._storage.set_study_user_attr(self._study, "layers", layers)
        predictions.write(evaluation.predictions, self.folder, number, evaluation.step)
        notes = {name: value for name, value in (("last", last), ("stop_reason", stop_reason)) if value}
        self._set(number, f"{EVALUATION}{evaluation.step}", row | notes)
        evaluation = self._serializer.shared(evaluation)
        evaluations = (*trial.evaluations, evaluation)
        self._change(
            number, evaluations=evaluations, seconds=evaluation.seconds, finished=last, stop_reason=stop_reason
        )
        self._fronts.add(trial, evaluation)
        return True

    def note(self, number: int, **values: Any) -> TrialRecord:
        """Store `retries` or `reduced_micro_batch` of a running trial and return the trial."""
        for name, value in values.items():
            self._set(number, name, value)
        return self._change(number, **values)

    def finish(
        self, number: int, state: State, reason: str | None = None, sampler_values: tuple[float, ...] | None = None
    ) -> TrialRecord:
        """Finish a running trial. No evaluation can be stored for it afterwards.

        Args:
            number: Number of the trial.
            state: Final state; a complete trial without a finite score becomes failed (samplers cannot use NaN).
            reason: Why it failed or was pruned.
            sampler_values: Objective values for samplers (see `searching.sampling.curve_value`).

        Returns:
            The finished trial.
        """
        values = None
        if state == "complete":
            if (top := best(self._records[number].evaluations)) is not None:
                values = (float(top.adapter_params), float(top.score))
            else:
                state, reason, sampler_values = "failed", "no evaluation with a finite score", None
        for name, value in {"reason": reason, "sampler_values": sampler_values}.items():
            if value is not None:
                self._set(number, name, value)
        code = next(optuna_state for optuna_state, our_state in STATES.items() if our_state == state)
        self._storage.set_trial_state_values(self._ids[number], code, values)
        self._records[number] = self._serializer.read(self._storage.get_trial(self._ids[number]))
        return self._records[number]

    def confirm(
        self, trial: int, step: int, params: int, seed: int, result: Mapping[str, Any], outcomes: bytes = b""
    ) -> None:
        """Store the result of retraining a point of the front with another seed.

        Args:
            trial: Number of the point's trial.
            step: Its step.
            params: Its adapter parameters.
            seed: Random seed of the new training.
            result: Score and size, or the reason of the failure.
            outcomes: Packed predictions on the validation examples; empty if there are none.
        """
        predictions.write(outcomes, self.folder, trial, step, params, seed)
        self._storage.set_study_user_attr(self._study, f"{CONFIRMED}{trial}:{step}:{params}:{seed}", dict(result))
        self._confirmed = {**self._confirmed, (trial, step, params, seed): dict(result)}

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._ids[number], key, value)

    def _change(self, number: int, **values: Any) -> TrialRecord:
        self._records[number] = replace(self._records[number], **values)
        return self._records[number]
