"""The one truth of a search: an append-only Optuna journal in its folder. All else is a projection of it.

One process, the search's driver, writes; any number may read meanwhile, `optuna-dashboard` included.
"""

from __future__ import annotations

import math
import uuid
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from autorank.errors import AutorankError, unknown
from autorank.results.lock import DriverLock
from autorank.results.records import Evaluation, State, TrialRecord
from autorank.spec import SearchSpec, explain

JOURNAL = "journal.log"
PACKAGES = ("autorank", "optuna", "peft", "ray", "torch", "transformers")
INTERRUPTED = "interrupted"

_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_EVALUATION = "evaluation:"  # + step: a trial's user attribute


class Journal:
    """A search's trials: settings, states, evaluations. Made by `create` or `open`; a context manager."""

    def __init__(self, folder: Path, lock: DriverLock, sampler: BaseSampler | None) -> None:
        self.folder = folder
        self._lock = lock
        self._finished: dict[int, TrialRecord] = {}  # a finished trial never changes, so it is parsed once
        try:
            self._storage = _storage(folder / JOURNAL, lock)
            self.study = optuna.load_study(study_name=None, storage=self._storage, sampler=sampler)
            self.spec = SearchSpec.model_validate(self.study.user_attrs["spec"])
        except ValidationError as error:
            raise explain(error, f"the search in {folder} (made by another version of autorank?)") from error
        except (ValueError, KeyError) as error:
            raise AutorankError(
                f"The journal {folder / JOURNAL} cannot be read: {error}. It holds one JSON object a line; "
                "take the damaged line out, or restore the file."
            ) from error

    @classmethod
    def create(
        cls, folder: Path, spec: SearchSpec, reference: tuple[float, float], sampler: BaseSampler
    ) -> Journal:
        """A new search in `folder`. `reference`: (params, score), the worst corner of the hypervolume.

        Raises AutorankError if there is one already, or another driver is at work there.
        """
        folder = Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        lock = DriverLock(folder / JOURNAL)
        lock.take()
        try:
            if (folder / JOURNAL).exists():
                raise AutorankError(
                    f"There is a run {folder.name!r} in {folder.parent} already. "
                    f"Go on with `autorank resume {folder.name}`, or choose another --name."
                )
            # written aside and renamed, so that no journal is ever seen without its spec
            draft = folder / f"{JOURNAL}.new"
            draft.unlink(missing_ok=True)
            _write_study(_storage(draft, lock), spec, reference)
            draft.rename(folder / JOURNAL)
            return cls(folder, lock, sampler)
        except BaseException:
            lock.drop()
            raise

    @classmethod
    def open(cls, folder: Path, sampler: BaseSampler | None = None) -> Journal:
        """The search in `folder`: with a sampler, to go on (one driver at a time); without, to read it.

        Raises AutorankError if there is none, it cannot be read, or another driver is at work on it.
        """
        folder = Path(folder).resolve()
        if not (folder / JOURNAL).is_file():
            raise _no_run(folder)
        lock = DriverLock(folder / JOURNAL)
        if sampler is not None:
            lock.take()
        try:
            return cls(folder, lock, sampler)
        except BaseException:
            lock.drop()
            raise

    def close(self) -> None:
        """Lets another driver in."""
        self._lock.drop()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def search_id(self) -> str:
        """Unique among all searches, also among those of the same name."""
        return self.study.study_name

    @property
    def reference(self) -> tuple[float, float]:
        """(params, score): the worst corner that hypervolumes count from."""
        params, score = self.study.user_attrs["reference"]
        return params, score

    def ask(self) -> optuna.Trial:
        """The next trial; re-enqueued settings first. Its values come from its `suggest_*` methods."""
        return self.study.ask()

    def start(self, number: int, config: dict[str, Any]) -> None:
        """Stores a trial's resolved settings: suggested, fixed and default ones."""
        self._set(number, "config", config)

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Stores an evaluation of a running trial; one of the same step is replaced."""
        self._set(number, f"{_EVALUATION}{evaluation.step}", evaluation.to_dict())

    def finish(
        self, number: int, state: State, reason: str | None = None, seconds: float | None = None
    ) -> TrialRecord:
        """Ends a running trial and returns it. Nothing can be recorded for it afterwards.

        A complete trial is told to the sampler with the parameters and score of its best finite evaluation
        (ties: fewest parameters). If it has none it fails: no sampler may get a missing or NaN objective.
        """
        values = None
        if state == "complete":
            finite = [e for e in self._read(self._trial(number)).evaluations if math.isfinite(e.score)]
            if finite:
                best = max(finite, key=lambda e: (e.score, -e.adapter_params))
                values = (float(best.adapter_params), float(best.score))
            else:
                state, reason = "failed", reason or "no evaluation with a finite score"
        if reason is not None:
            self._set(number, "reason", reason)
        if seconds is not None:
            self._set(number, "seconds", seconds)
        told = next(theirs for theirs, ours in _STATES.items() if ours == state)
        self.study.tell(number, values, state=told)
        return self._read(self._trial(number))

    def trials(self) -> list[TrialRecord]:
        """Every trial that was started, by number. Reads only what was written since the last call."""
        trials = self.study.get_trials(deepcopy=False)
        return [self._read(trial) for trial in trials if trial.state != TrialState.WAITING]

    def recover(self) -> list[TrialRecord]:
        """Fails the trials still running as 'interrupted', and enqueues their settings again. Returns them.

        For a driver that takes over from a dead one, or that stops early itself. Safe to be cut off anywhere:
        the settings are enqueued first, and never twice.
        """
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        interrupted = []
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            # what was enqueued, and not yet suggested when the driver died, is still only in `fixed_params`
            settings = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if settings and trial.number not in retried:
                self.study.enqueue_trial(settings, user_attrs={"retry_of": trial.number})
            worked = self._read(trial).seconds  # until now would count the time that nobody was at work
            interrupted.append(self.finish(trial.number, "failed", INTERRUPTED, worked))
        return interrupted

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _read(self, trial: FrozenTrial) -> TrialRecord:
        if trial.number in self._finished:
            return self._finished[trial.number]
        attrs = trial.user_attrs
        evaluations = [Evaluation(**value) for key, value in attrs.items() if key.startswith(_EVALUATION)]
        evaluations.sort(key=lambda evaluation: evaluation.step)
        started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        if trial.datetime_complete:
            seconds = attrs.get("seconds", trial.datetime_complete.timestamp() - started)
        else:
            seconds = evaluations[-1].seconds if evaluations else 0.0
        record = TrialRecord(
            number=trial.number,
            config=attrs.get("config", {}),
            state=_STATES[trial.state],
            evaluations=evaluations,
            reason=attrs.get("reason"),
            seconds=seconds,
            started=started,
        )
        if trial.state.is_finished():
            self._finished[trial.number] = record
        return record


def runs(folder: Path) -> list[str]:
    """The names of the searches in a folder of runs."""
    return sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL}"))


def _no_run(folder: Path) -> AutorankError:
    if there := runs(folder.parent):
        return unknown("run", folder.name, there)
    return AutorankError(
        f"There is no run {folder.name!r}: {folder.parent} holds none. `autorank search` makes one; "
        "--runs DIR names another folder."
    )


def _storage(path: Path, lock: DriverLock) -> JournalStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _write_study(storage: JournalStorage, spec: SearchSpec, reference: tuple[float, float]) -> None:
    study = optuna.create_study(
        storage=storage, study_name=f"{spec.name}-{uuid.uuid4().hex[:8]}", directions=["minimize", "maximize"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["adapter_params", "score"])
    study.set_user_attr("spec", spec.model_dump(mode="json"))
    study.set_user_attr("reference", list(reference))
    study.set_user_attr("created", datetime.now(UTC).isoformat(timespec="seconds"))
    study.set_user_attr("versions", _versions())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
