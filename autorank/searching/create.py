"""A search's beginning: its spec put together, its journal made, or opened again if it is the same search."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autorank.errors import AutorankError
from autorank.methods import absolute_paths, find
from autorank.searching.space.space import BASELINE, Source, Space, load
from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec, explain
from autorank.trials.journal import Journal
from autorank.trials.journal_file import JOURNAL


def make_spec(
    spaces: Mapping[str, Space], task: TaskSpec, model: str | None = None, training: TrainingSpec | None = None,
    name: str | None = None, baseline: bool = True, beside: Source = None, **values: Any,
) -> SearchSpec:  # fmt: skip
    """The search of `spaces` (method -> its space) on `task`.

    Args:
        baseline: add plain LoRA, tuned in its own space, where it is not among the methods.
        beside: the baseline's space, in place of its own.
        values: other fields of `SearchSpec`.

    Raises:
        AutorankError: a value that is refused.
    """
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*spaces, task.name]))
    entries = [_entry(method, space) for method, space in spaces.items()]
    plain = None
    if baseline and BASELINE not in spaces:
        plain = _entry(BASELINE, load(BASELINE, beside, _common(spaces) if beside is None else ()))
    try:
        return SearchSpec(
            name=name, task=task, model=model, training=training or TrainingSpec(), methods=tuple(entries),
            baseline=plain, **values,
        )  # fmt: skip
    except ValidationError as error:
        raise explain(error, "The search") from None


def _entry(method: str, space: Space) -> MethodSpec:
    return MethodSpec(method=method, settings=absolute_paths(method, space.fixed), space=space.ranges)


def _common(spaces: Mapping[str, Space]) -> list[str]:
    """What the baseline shares with the methods: the layers that are adapted, if all that name any name the same."""
    aiming = [space for method, space in spaces.items() if "targets" in find(method).Config.model_fields]
    named = {space.fixed.get("targets") for space in aiming}
    (only,) = named if len(named) == 1 else (None,)
    return [] if only is None else [f"targets={only}"]


def open_journal(spec: SearchSpec, folder: Path, reference: Callable[[], tuple[float, float]]) -> Journal:
    """The journal of `spec` in `folder`, new or gone on with, open for writing.

    Raises:
        AutorankError: the folder holds another search; the message says where they differ.
    """
    if not (folder / JOURNAL).exists():
        return Journal.create(folder, spec, reference())
    journal = Journal.open(folder, write=True)
    spec = spec.model_copy(update={"warm_start": journal.spec.warm_start})  # read once: earlier searches may go on
    if journal.spec == spec:
        return journal
    journal.close()
    raise AutorankError(
        f"There is another search {spec.name!r} in {folder.parent}. It differs:\n"
        + "\n".join(f"  {line}" for line in differences(journal.spec, spec))
        + "\nGive the same settings to go on with it, or another --name."
    )


def differences(there: SearchSpec, here: SearchSpec) -> list[str]:
    """Where two specs differ, a line each: `train.training.epochs: 3 there, 5 now`."""
    old, new = _flat(there.model_dump(mode="json")), _flat(here.model_dump(mode="json"))
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name, 'nothing')} there, {new.get(name, 'nothing')} now" for name in names]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name == "methods":
            value = {entry["method"]: entry for entry in value}
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
