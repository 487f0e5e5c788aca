"""A search's beginning: its spec put together, its journal made, or opened again if it is the same search."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autorank.errors import AutorankError
from autorank.method import find
from autorank.results.journal import JOURNAL, Journal
from autorank.search import ranges
from autorank.search.samplers import make_sampler
from autorank.search.space import Space
from autorank.spec import SearchSpec, TrainSpec, explain


def make_spec(
    train: TrainSpec, space: Space, name: str | None = None, sampler: str = "tpe", seed: int = 0
) -> SearchSpec:
    """The search of `space` around the base run `train`, whose settings are the space's fixed ones.

    Raises:
        AutorankError: a name or sampler that is refused.
    """
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{train.method}-{train.task.name}")
    base = train.model_copy(update={"settings": space.fixed})
    try:
        return SearchSpec(name=name, train=base, space=space.ranges, sampler=sampler, seed=seed)
    except ValidationError as error:
        raise explain(error, "The search") from None


def open_journal(spec: SearchSpec, folder: Path, reference: Callable[[], tuple[float, float]]) -> Journal:
    """The journal of `spec` in `folder`, new or gone on with, open for writing.

    Raises:
        AutorankError: the folder holds another search; the message says where they differ.
    """
    if (folder / JOURNAL).exists():
        with Journal.open(folder) as journal:
            there, count = journal.spec, len(journal.trials())
        if there != spec:
            raise AutorankError(
                f"There is another search {spec.name!r} in {folder.parent}. It differs:\n"
                + "\n".join(f"  {line}" for line in differences(there, spec))
                + "\nGive the same settings to go on with it, or another --name."
            )
        return Journal.open(folder, make_sampler(spec.sampler, spec.seed, count))
    journal = Journal.create(folder, spec, reference(), make_sampler(spec.sampler, spec.seed))
    journal.study.enqueue_trial(first_settings(spec))
    return journal


def first_settings(spec: SearchSpec) -> dict[str, Any]:
    """The method's own defaults as far as the space has them: the first trial of a search."""
    fields = find(spec.train.method).Config.model_fields
    return {
        name: fields[name].default for name, entry in spec.space.items() if ranges.contains(entry, fields[name].default)
    }


def differences(there: SearchSpec, here: SearchSpec) -> list[str]:
    """Where two specs differ, a line each: `train.training.epochs: 3 there, 5 now`."""
    old, new = _flat(there.model_dump(mode="json")), _flat(here.model_dump(mode="json"))
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name, 'nothing')} there, {new.get(name, 'nothing')} now" for name in names]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
