"""Searches and trainings as they were call for, and shown as they go; by the command line and from Python alike."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.display.console import terminal
from autorank.errors import require_posix
from autorank.options.calls import ResumeCall, TrainCall
from autorank.options.parsing import expand
from autorank.options.shared import RUNS
from autorank.trials.front import Point
from autorank.trials.record import Evaluation

if TYPE_CHECKING:
    from autorank.display.base import Places
    from autorank.searching.search import Outcome
    from autorank.spec import SearchSpec


@dataclass(frozen=True)
class Trained:
    """A training: all its evaluations, the best of them as a point, and where its adapter was written, if anywhere."""

    best: Point
    evaluations: list[Evaluation] = field(repr=False)
    adapter: Path | None


def run_training(call: TrainCall) -> Trained:
    """Train as call for, and say how it goes."""
    from autorank.display.base import Display
    from autorank.display.train_display import follow
    from autorank.export import output_dir
    from autorank.export.export_point import plan_export
    from autorank.training.run import TrainingRun

    require_posix()
    spec, to, console = call.spec(), None if call.to is None else expand(call.to), terminal(call.quiet)
    training = TrainingRun(spec)
    with output_dir.work_dir(to) as scratch:  # what cannot be written later fails now
        best, made = scratch / "best.safetensors", scratch / "made"
        with nullcontext() if to is None else output_dir.keep_on_failure(best, to):
            point, evaluations = follow(console, training, best, Display().warn)
            if to is not None:
                plan_export(best, point, spec).write(made)
                output_dir.move_into_place(made, to)
                console.print(f"Adapter of step {point.step} in {to}")
    return Trained(point, evaluations, to)


def run_search(spec: SearchSpec, call: ResumeCall, commands: bool) -> Outcome:
    """Run a search and show it, as call for. `commands`: say in the end which commands come next."""
    from autorank import tasks
    from autorank.display.factory import choose
    from autorank.tracking.tracking_uri import default_uri
    from autorank.trials.journal import JOURNAL, Journal
    from autorank.trials.retention import run_folder

    require_posix()
    tasks.base_model(spec.task, spec.model)  # a task that there is not is told before a title that names it
    budget, runs = call.budget(), expand(call.runs)
    folder, uri = run_folder(runs, spec.name), call.tracking_uri
    if uri is None:
        before = Journal.open(folder).wanted if (folder / JOURNAL).exists() else {}
        uri = default_uri(runs, before.get("tracking"))
    places = _places(folder, runs, call.tracking_uri)
    display = choose(spec, places, budget.seconds, commands, call.quiet, call.json)
    with display:
        from autorank.searching.search import search as search_trials  # Ray, which has its say in notebooks

        outcome = search_trials(spec, folder, budget, uri, display.update, display.warn)
    display.end(outcome)
    return outcome


def _places(folder: Path, runs: Path, tracking_uri: str | None) -> Places:
    """Where the search is, and the options by which a next command finds the same runs and the same store."""
    from autorank.display.base import Places
    from autorank.redaction import hide

    return Places(
        folder,
        f" --runs {shlex.quote(str(runs))}" if runs != RUNS else "",
        f" --tracking-uri {shlex.quote(hide(tracking_uri))}" if tracking_uri else "",
    )
