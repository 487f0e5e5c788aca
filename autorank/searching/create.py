"""Creates the spec of a search, and its journal, or opens the journal if the search exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autorank.errors import AutorankError, explain
from autorank.methods import absolute_paths, find
from autorank.searching.space.space import BASELINE, Source, Space, load
from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL


def make_spec(
    spaces: Mapping[str, Space], task: TaskSpec, model: str | None = None, training: TrainingSpec | None = None,
    name: str | None = None, baseline: bool = True, baseline_space: Source = None, **values: Any,
) -> SearchSpec:  # fmt: skip
    """Create the spec of a search.

    Args:
        spaces: Method -> its search space.
        task: The task.
        model: Base model; None: that of the task.
        training: Training settings; None: the defaults.
        name: Name of the search; by default made from methods and task.
        baseline: Add plain LoRA as a baseline, unless it is one of the methods.
        baseline_space: Search space of the baseline; None: its built-in space.
        values: Other fields of `SearchSpec`.

    Returns:
        The spec.

    Raises:
        AutorankError: A value is not valid.
    """
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*spaces, task.name]))
    entries = [_entry(method, space) for method, space in spaces.items()]
    baseline_entry = None
    if baseline and BASELINE not in spaces:
        settings = _common_targets(spaces) if baseline_space is None else ()
        baseline_entry = _entry(BASELINE, load(BASELINE, baseline_space, settings))
    try:
        return SearchSpec(
            name=name, task=task, model=model, training=training or TrainingSpec(), methods=tuple(entries),
            baseline=baseline_entry, **values,
        )  # fmt: skip
    except ValidationError as error:
        raise explain(error, "The search") from None


def _entry(method: str, space: Space) -> MethodSpec:
    return MethodSpec(
        method=method, settings=absolute_paths(method, space.fixed), space=absolute_paths(method, space.ranges)
    )


def _common_targets(spaces: Mapping[str, Space]) -> list[str]:
    """The adapted layers as a setting for the baseline, if all methods with this setting fix the same value."""
    targeted = [space for method, space in spaces.items() if "targets" in find(method).Config.model_fields]
    values = {space.fixed.get("targets") for space in targeted}
    (targets,) = values if len(values) == 1 else (None,)
    return [] if targets is None else [f"targets={targets}"]


def open_journal(spec: SearchSpec, folder: Path, reference: Callable[[], tuple[float, float]]) -> Journal:
    """Create or open the journal of a search, for writing.

    Args:
        spec: The search.
        folder: Its directory.
        reference: Called for a new journal; returns the reference point of the hypervolume, parameters and score.

    Returns:
        The journal.

    Raises:
        AutorankError: The directory contains another search; the message lists the differences.
    """
    if not (folder / JOURNAL).exists():
        return Journal.create(folder, spec, reference())
    journal = Journal.open(folder, write=True)
    try:
        check_same(journal, spec)
    except AutorankError:
        journal.close()
        raise
    return journal


def check_same(journal: Journal, spec: SearchSpec) -> None:
    """Check that a journal is that of a search, to be continued.

    Args:
        journal: The journal.
        spec: The search. Its earlier trials do not matter: they are read only once, because their searches may go on.

    Raises:
        AutorankError: It is that of another search; the message lists the differences.
    """
    spec = spec.model_copy(update={"warm_start": journal.spec.warm_start})
    if journal.spec != spec:
        raise AutorankError(
            f"{journal.folder.parent} already contains a search {spec.name!r} with other settings:\n"
            + "\n".join(f"  {line}" for line in differences(journal.spec, spec))
            + "\nUse the same settings to continue it, or another --name."
        )


def differences(stored: SearchSpec, new_spec: SearchSpec) -> list[str]:
    """Return the differences of two specs, one line for each: `training.epochs: was 3, now 5`."""
    old, new = _flat(stored.model_dump(mode="json")), _flat(new_spec.model_dump(mode="json"))
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return [f"{name}: was {old.get(name, 'not set')}, now {new.get(name, 'not set')}" for name in names]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name == "methods":
            flat["methods"] = ", ".join(entry["method"] for entry in value)
            value = {entry["method"]: entry for entry in value}
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
