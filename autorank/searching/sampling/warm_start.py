"""Reads earlier searches for `--warm-start`: settings to try first, and trials that the sampler starts from."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autorank import tasks
from autorank.errors import AutorankError
from autorank.methods import find
from autorank.searching.space import ranges
from autorank.spec import EarlierTrial, MethodSpec, SearchSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import runs as searches_in
from autorank.trials.retention import search_folder

AUTO = "auto"
SETTINGS_TRIED_FIRST = 1  # setting of earlier fronts that each method tries first (ours)
MAX_EARLIER = 10  # earlier trials of each method that its sampler starts from (ours)


def earlier_trials(names: str, runs: Path, spec: SearchSpec) -> tuple[EarlierTrial, ...]:
    """Read the trials that a search starts from.

    Trials are ranked within their own search, because values of different tasks do not compare.

    Args:
        names: Names of earlier searches, separated by commas; `auto`: all in `runs` with the same base model and at
            least one of the methods.
        runs: The directory of searches.
        spec: The new search.

    Returns:
        Trials of the new search's methods, those to be tried first in front, the best first.

    Raises:
        AutorankError: A search does not exist or is damaged, has another base model or none of the methods, or has no
            trial with a score whose settings are within the new search's space.
    """
    if names.strip() == AUTO:
        journals = _all(runs, spec)
    else:
        journals = [_named_search(name, runs, spec) for name in _split(names)]
    distinct: dict[str, Journal] = {}  # without copies
    for journal in journals:
        distinct.setdefault(journal.search_id, journal)
    trials: list[EarlierTrial] = []
    for entry in spec.entries:
        ranked = [trial for journal in distinct.values() for trial in _ranked(journal, entry, spec)]
        ranked.sort(key=lambda trial: (not trial.first, [-rank for rank in trial.ranks]))
        best = _distinct([trial for trial in ranked if trial.first])[:SETTINGS_TRIED_FIRST]
        firsts = [trial for trial in best if trial.settings != default_settings(entry)]  # these come next anyway
        others = [trial.model_copy(update={"first": False}) for trial in ranked if trial not in firsts]
        trials += [*firsts, *_spread(others, MAX_EARLIER - len(firsts))]
    return tuple(trials)


def _split(names: str) -> list[str]:
    listed = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not listed:
        raise AutorankError("--warm-start needs the names of earlier searches, or auto.")
    return listed


def _named_search(name: str, runs: Path, spec: SearchSpec) -> Journal:
    """The journal of a search that was named."""
    if name == spec.name:
        raise AutorankError(f"--warm-start {name} is this search itself. Name earlier searches, or another --name.")
    journal = Journal.open(search_folder(runs, name))
    try:
        earlier, new = _model(journal.spec), _model(spec)
    except AutorankError as error:
        raise AutorankError(f"--warm-start {name}: {error}") from error
    if earlier != new:
        raise AutorankError(
            f"--warm-start {name}: its base model is {earlier}, that of this search is {new}. Settings of another base "
            f"model do not transfer. Leave out {name}, or choose --model {earlier}."
        )
    if not _shared(journal.spec, spec):
        earlier, new = (
            ", ".join(entry.method for entry in entries) for entries in (journal.spec.entries, spec.methods)
        )
        raise AutorankError(
            f"--warm-start {name}: it searched {earlier}, this search has {new}. Name a search with one of the same "
            "methods."
        )
    if not any(_ranked(journal, entry, spec) for entry in spec.entries):
        raise AutorankError(
            f"--warm-start {name}: none of its trials has a score and settings within this search's space. Leave out "
            f"{name}, or widen the space."
        )
    return journal


def _all(runs: Path, spec: SearchSpec) -> list[Journal]:
    """The journals of all searches that fit; those that cannot be read are left out."""
    journals: list[Journal] = []
    for name in searches_in(runs):
        try:
            journal = Journal.open(search_folder(runs, name))
            fits = name != spec.name and _model(journal.spec) == _model(spec) and _shared(journal.spec, spec)
        except (AutorankError, OSError):
            continue
        if fits:
            journals.append(journal)
    return journals


def _model(spec: SearchSpec) -> str:
    return tasks.base_model(spec.task, spec.model)


def _shared(earlier: SearchSpec, new: SearchSpec) -> bool:
    return bool({entry.method for entry in earlier.entries} & {entry.method for entry in new.methods})


def _ranked(journal: Journal, entry: MethodSpec, spec: SearchSpec) -> list[EarlierTrial]:
    """The trials of a method with values, ranked within their search: from 0, the worst, to 1.

    Ranks of the third objective are left out if the new search does not have the same one.
    """
    same = journal.spec.objectives.third_objective == spec.objectives.third_objective
    snapshot = journal.snapshot()
    scored = [trial for trial in snapshot.trials if trial.method == entry.method and trial.sampler_values is not None]
    fronts = {point.trial for point in (*snapshot.points, *snapshot.baseline)}
    values = [list(column) for column in zip(*(trial.sampler_values or () for trial in scored), strict=True)]
    columns = [mid_ranks(column) for column in (values if same else values[:1])]
    return [
        EarlierTrial(
            search=journal.folder.name, method=entry.method, settings=settings, ranks=tuple(c[index] for c in columns),
            first=trial.number in fronts,
        )
        for index, trial in enumerate(scored)
        if (settings := searched_settings(trial.settings, entry))
    ]  # fmt: skip


def mid_ranks(values: Sequence[float]) -> list[float]:
    """Rank values from 0 to 1.

    Args:
        values: Any numbers.

    Returns:
        For each value the share of smaller ones, and half the share of equal ones.
    """
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 / len(ordered) for value in values]


def searched_settings(settings: Mapping[str, Any], entry: MethodSpec) -> dict[str, Any]:
    """Return the settings of an earlier trial that a search searches too.

    Args:
        settings: The settings of the earlier trial.
        entry: The method and its space.

    Returns:
        The settings; empty if one of them is outside its range.
    """
    shared = {name: settings[name] for name in entry.space if name in settings}
    return shared if all(ranges.contains(entry.space[name], value) for name, value in shared.items()) else {}


def default_settings(entry: MethodSpec) -> dict[str, Any]:
    """Return a method's defaults of the settings that a search searches, without those outside their range."""
    fields = find(entry.method).Config.model_fields
    return {
        name: fields[name].default
        for name, values in entry.space.items()
        if ranges.contains(values, fields[name].default)
    }


def _distinct(trials: Sequence[EarlierTrial]) -> list[EarlierTrial]:
    return [trial for i, trial in enumerate(trials) if trial.settings not in [other.settings for other in trials[:i]]]


def _spread(trials: Sequence[EarlierTrial], count: int) -> list[EarlierTrial]:
    """At most `count` trials, evenly spread over their ranks."""
    if len(trials) <= count:
        return list(trials)
    trials = sorted(trials, key=lambda trial: trial.ranks, reverse=True)
    return [trials[round(index * (len(trials) - 1) / (count - 1))] for index in range(count)]
