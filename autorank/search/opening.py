"""A search's beginning: its spec put together, its journal made, or opened again if it is the same search."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from autorank.errors import AutorankError
from autorank.method import find
from autorank.results.journal import JOURNAL, Journal
from autorank.search import ranges
from autorank.search.estimate import extremes
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
    base = train.model_copy(update={"settings": _anywhere(train.method, space.fixed)})
    try:
        return SearchSpec(name=name, train=base, space=space.ranges, sampler=sampler, seed=seed)
    except ValidationError as error:
        raise explain(error, "The search") from None


def _anywhere(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with files named so that trials find them, which run in other folders."""
    fields = find(method).Config.model_fields
    return {
        name: str(Path(value).absolute()) if value and Path in get_args(fields[name].annotation) else value
        for name, value in settings.items()
    }


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
    for settings in first_settings(spec):
        journal.study.enqueue_trial(settings, skip_if_exists=True)
    return journal


def first_settings(spec: SearchSpec) -> list[dict[str, Any]]:
    """The first trials of a search: the method's own defaults, and these with the smallest and the largest adapter.

    So both ends of the front are measured early, whatever the sampler draws (ours). A default that lies outside its
    range leaves that setting to the sampler.
    """
    fields = find(spec.train.method).Config.model_fields
    defaults = {
        name: fields[name].default for name, entry in spec.space.items() if ranges.contains(entry, fields[name].default)
    }
    return [defaults, *({**defaults, **ends} for ends in extremes(spec))]


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
