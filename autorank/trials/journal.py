"""The one truth of a search: an append-only Optuna journal in its folder. All else is a projection of it.

One process, the search's driver, writes; any number may read meanwhile, `optuna-dashboard` included. A trial that was
cut off stays RUNNING in it, with its number, until a driver goes on with it and ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError

from autorank.errors import AutorankError, unknown
from autorank.spec import SearchSpec, explain
from autorank.training.evaluation import Evaluation, best
from autorank.trials.journal_lock import DriverLock
from autorank.trials.record import State, TrialRecord
from autorank.trials.serialization import EVALUATION, STATES, Rows
from autorank.trials.snapshot import Archive, Snapshot
from autorank.trials.study_metadata import write_study

JOURNAL = "journal.log"
ABOUT = ("versions", "revision", "data")  # a study's user attributes
CONFIRMED = "confirmed:"  # + trial:step:parameters:seed: a study's user attribute


class Journal:
    """A search's trials: settings, states, evaluations. Made by `create` or `open`; a context manager.

    Attributes:
        spec: the search.
        reference: (params, score), the worst corner that hypervolumes count from.
        cut: bytes of an incomplete last line, which is ignored; 0 if there is none.
    """

    def __init__(self, backend: BaseJournalBackend, folder: Path, lock: DriverLock | None = None, cut: int = 0) -> None:
        self.folder, self.cut = folder, cut
        self._lock = lock
        try:
            self._storage = JournalStorage(backend)
            self._study = self._storage.get_all_studies()[0]._study_id
            # the trials first: a driver at work stores names of layers before a trial refers to them
            trials = self._storage.get_all_trials(self._study, deepcopy=False)
            attributes = self._attributes()
            self.spec = SearchSpec.model_validate(attributes["spec"])
            self.reference: tuple[float, float] = tuple(attributes["reference"])
            self._confirmed = _confirmed(attributes)
            self._wanted: dict[str, int] = attributes.get("wanted", {})
            self._about = {name: attributes[name] for name in ABOUT if name in attributes}
            self._rows = Rows(attributes.get("layers", []))
            self._ids = [trial._trial_id for trial in trials]
            self._records = [self._rows.read(trial) for trial in trials]
        except ValidationError as error:
            raise explain(error, f"the search in {folder} (made by another version of autorank?)") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise AutorankError(
                f"The journal {folder / JOURNAL} cannot be read: {error}. It holds one JSON object a line; "
                "take the damaged line out, or restore the file."
            ) from error
        self._archive = Archive(self.spec.objectives, self._records)

    @classmethod
    def create(cls, folder: Path, spec: SearchSpec, reference: tuple[float, float]) -> Journal:
        """A new search in `folder`, open for writing.

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
            write_study(JournalFileBackend(str(draft), lock_obj=lock), spec, reference)
            draft.rename(folder / JOURNAL)
            return cls(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock), folder, lock)
        except BaseException:
            lock.drop()
            raise

    @classmethod
    def open(cls, folder: Path, write: bool = False) -> Journal:
        """The search in `folder` as it is now: to read it, or to go on with it (one driver at a time).

        Raises AutorankError if there is none, it cannot be read, or another driver is at work on it.
        """
        folder = Path(folder).resolve()
        if not (folder / JOURNAL).is_file():
            raise _no_run(folder)
        lock = DriverLock(folder / JOURNAL)
        if write:
            lock.take()
        try:
            cut = lock.mend() if write else 0
            return cls(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock), folder, lock, cut)
        except BaseException:
            lock.drop()
            raise

    def close(self) -> None:
        """Lets another driver in."""
        if self._lock is not None:
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
        return self._storage.get_study_name_from_id(self._study)

    @property
    def wanted(self) -> dict[str, Any]:
        """What was asked for at last, for one who goes on without saying: `trials`, `confirm`, perhaps `storage` and
        `tracking`."""
        return self._wanted

    def want(self, **wanted: Any) -> None:
        """Stores what is asked for."""
        if wanted != self._wanted:
            self._storage.set_study_user_attr(self._study, "wanted", wanted)
            self._wanted = wanted

    @property
    def about(self) -> dict[str, Any]:
        """What the search began with: `versions` of packages; git `revision` and `data` where known."""
        return self._about

    def describe(self, data: Mapping[str, Any]) -> bool:
        """Stores which data the search began with; returns whether they are still the same."""
        if "data" not in self._about:
            self._storage.set_study_user_attr(self._study, "data", dict(data))
            self._about["data"] = dict(data)
        return bool(self._about["data"] == data)

    def trials(self) -> list[TrialRecord]:
        """Every trial that was started, by number."""
        return list(self._records)

    def trial(self, number: int) -> TrialRecord:
        return self._records[number]

    def snapshot(self) -> Snapshot:
        """All trials and their fronts."""
        return Snapshot(
            self.trials(), self._archive.points, self._archive.baseline, self._confirmed,
            self._wanted.get("trials", 0), self.spec.objectives.third, self.reference,
        )  # fmt: skip

    def begin(
        self, method: str, config: dict[str, Any], sampled: Mapping[str, tuple[Any, BaseDistribution]],
        baseline: bool = False, generation: Mapping[str, Any] | None = None,
    ) -> TrialRecord:  # fmt: skip
        """A new trial, written in one line: it is there with all its settings, or not at all.

        Args:
            config: all settings: sampled, fixed and default ones.
            sampled: setting -> its value as it was sampled, and from what.
            generation: what a genetic sampler noted of it.
        """
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={name: value for name, (value, _) in sampled.items()},
            distributions={name: distribution for name, (_, distribution) in sampled.items()},
            system_attrs=dict(generation or {}),
            user_attrs={"method": method, "config": config} | ({"baseline": True} if baseline else {}),
        )
        self._ids.append(self._storage.create_new_trial(self._study, template))
        self._records.append(self._rows.read(self._storage.get_trial(self._ids[-1])))
        return self._records[-1]

    def record(self, number: int, evaluation: Evaluation, last: bool = False, stop_reason: str | None = None) -> bool:
        """Stores an evaluation of a running trial. Returns False for one that is here already.

        Args:
            last: it is the run's last.
            stop_reason: why the trial stops after it.
        """
        trial = self._records[number]
        if evaluation.step <= trial.step:
            return False
        row, layers = self._rows.write(evaluation)
        if layers is not None:
            self._storage.set_study_user_attr(self._study, "layers", layers)
        notes = {name: value for name, value in (("last", last), ("stop_reason", stop_reason)) if value}
        self._set(number, f"{EVALUATION}{evaluation.step}", row | notes)
        evaluation = self._rows.shared(evaluation)
        evaluations = (*trial.evaluations, evaluation)
        self._change(
            number, evaluations=evaluations, seconds=evaluation.seconds, finished=last, stop_reason=stop_reason
        )
        self._archive.add(trial, evaluation)
        return True

    def note(self, number: int, **values: Any) -> TrialRecord:
        """Stores `retries` or `reduced_micro_batch` of a running trial."""
        for name, value in values.items():
            self._set(number, name, value)
        return self._change(number, **values)

    def finish(
        self, number: int, state: State, reason: str | None = None, sampler_values: tuple[float, ...] | None = None
    ) -> TrialRecord:
        """Ends a running trial and returns it. Nothing can be recorded for it afterwards.

        Args:
            sampler_values: what samplers learn of it (see `searching.sampling.curve_value`). A complete trial without
                a finite score fails: no sampler may get a NaN.
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
        code = next(theirs for theirs, ours in STATES.items() if ours == state)
        self._storage.set_trial_state_values(self._ids[number], code, values)
        self._records[number] = self._rows.read(self._storage.get_trial(self._ids[number]))
        return self._records[number]

    def confirm(self, trial: int, step: int, params: int, seed: int, result: Mapping[str, Any]) -> None:
        """Stores what a point of the front came to when it was trained again with another seed.

        Args:
            trial, step, params: the point's `key`.
            seed: of the new training.
            result: its score and size, or why it failed.
        """
        self._storage.set_study_user_attr(self._study, f"{CONFIRMED}{trial}:{step}:{params}:{seed}", dict(result))
        self._confirmed = {**self._confirmed, (trial, step, params, seed): dict(result)}

    def _attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = self._storage.get_study_user_attrs(self._study)
        return attributes

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._ids[number], key, value)

    def _change(self, number: int, **values: Any) -> TrialRecord:
        self._records[number] = replace(self._records[number], **values)
        return self._records[number]


def runs(folder: Path) -> list[str]:
    """The names of the searches in a folder of runs."""
    return sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL}"))


def _confirmed(attributes: Mapping[str, Any]) -> dict[tuple[int, int, int, int], dict[str, Any]]:
    found = {}
    for key, value in attributes.items():
        if key.startswith(CONFIRMED):
            trial, step, params, seed = map(int, key.removeprefix(CONFIRMED).split(":"))
            found[trial, step, params, seed] = value
    return found


def _no_run(folder: Path) -> AutorankError:
    if there := runs(folder.parent):
        return unknown("run", folder.name, there)
    return AutorankError(
        f"There is no run {folder.name!r}: {folder.parent} holds none. `autorank search` makes one; "
        "--runs DIR names another folder."
    )
