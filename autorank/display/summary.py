"""End of a search: the front, notes, and suggested commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from autorank.display.base import Locations
from autorank.errors import counted
from autorank.reporting.tables import count, front_summary
from autorank.spec import SearchSpec
from autorank.trials.journal.journal_file import JOURNAL

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


def finish(console: Console, spec: SearchSpec, outcome: Outcome, locations: Locations, suggest_commands: bool) -> None:
    """Print the end of a search.

    Args:
        console: The console.
        spec: The search.
        outcome: How the search ended, and its last snapshot.
        locations: Where it is stored.
        suggest_commands: Print suggested commands.
    """
    snapshot = outcome.snapshot
    console.print(front_summary(snapshot, spec.searched_settings))
    for note in notes(spec.name, outcome, locations):
        console.print(f"\n{note}", markup=False, soft_wrap=True)
    if snapshot.points and suggest_commands:
        lines = next_commands(spec.name, outcome, locations)
        console.print("\nNext:\n  " + "\n  ".join(lines), markup=False, soft_wrap=True)


def notes(name: str, outcome: Outcome, locations: Locations) -> list[str]:
    """Return what the user should know about the end of a search, one text per note.

    Args:
        name: The search's name.
        outcome: How the search ended.
        locations: Where it is stored.

    Returns:
        The notes.
    """
    options = f"{locations.runs_option}{locations.tracking_option}"
    resume = f"To continue: {locations.resume}"
    endings = {
        "interrupted": f"Interrupted; all results are kept. {resume}",
        "time budget": f"The time budget is used up. {resume}",
        "exhausted": "The space is exhausted: all its settings have been tried.",
        "flat": "Stopped: more trials are not expected to add to the front. "
        + resume.replace(" --stop-when-flat", ""),  # with it, the search would stop at once
    }
    texts = [endings[outcome.ending]] if outcome.ending in endings else []
    if outcome.unconfirmed:
        is_missing = "is" if outcome.unconfirmed == 1 else "are"
        texts.append(f"{counted(outcome.unconfirmed, 'confirmation')} {is_missing} missing. {resume}")
    if not outcome.tracked:
        texts.append(f"MLflow is incomplete. To update it: autorank sync {name}{options}")
    return texts


def next_commands(name: str, outcome: Outcome, locations: Locations) -> list[str]:
    """Return suggested commands: export, front, report, MLflow UI, Optuna dashboard.

    Args:
        name: The search's name.
        outcome: How the search ended; its front is not empty.
        locations: Where it is stored.

    Returns:
        The commands, some with a comment.
    """
    knee = next(point for point in outcome.snapshot.points if point.knee)
    journal = locations.folder / JOURNAL
    if journal.is_relative_to(Path.cwd()):
        journal = journal.relative_to(Path.cwd())
    return [
        f"autorank export {name} --knee --to {name}-adapter{locations.runs_option}   "
        f"# {count(knee.adapter_params)} parameters, score {knee.score:.4f}",
        f"autorank front {name} --format json{locations.runs_option}",
        f"autorank report {name}{locations.runs_option}",
        f"autorank ui {name}{locations.runs_option}{locations.tracking_option}",
        f"optuna-dashboard {shlex.quote(str(journal))}   # pip install optuna-dashboard",
    ]
