"""The end of a search: its front, what went wrong, and what to type next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from autorank.display.base import Places
from autorank.display.formatting import varied
from autorank.reporting.tables import count, front_summary
from autorank.spec import SearchSpec
from autorank.trials.journal import JOURNAL

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


def finish(console: Console, spec: SearchSpec, outcome: Outcome, places: Places, commands: bool) -> None:
    """Print it. `commands`: print those that come next."""
    snapshot = outcome.snapshot
    console.print(front_summary(snapshot, snapshot.reference or (1.0, 0.0), varied(spec)))
    for note in notes(spec.name, outcome, places):
        console.print(f"\n{note}", markup=False, soft_wrap=True)
    if snapshot.points and commands:
        lines = next_commands(spec.name, outcome, places)
        console.print("\nNext:\n  " + "\n  ".join(lines), markup=False, soft_wrap=True)


def notes(name: str, outcome: Outcome, places: Places) -> list[str]:
    """What the user should know of how a search ended."""
    where = f"{places.runs}{places.store}"
    go_on = f"Go on: autorank resume {name}{where}"
    endings = {
        "interrupted": f"Interrupted; nothing is lost. {go_on}",
        "time budget": f"The time budget is used up. {go_on}",
        "exhausted": "Nothing new was found in the space: its settings have had their trials.",
    }
    found = [endings[outcome.ending]] if outcome.ending in endings else []
    if outcome.unconfirmed:
        found.append(f"{outcome.unconfirmed} confirmations are missing. {go_on}")
    if not outcome.tracked:
        found.append(f"MLflow does not have all of it; catch up: autorank sync {name}{where}")
    return found


def next_commands(name: str, outcome: Outcome, places: Places) -> list[str]:
    """Commands for what people want next."""
    knee = next(point for point in outcome.snapshot.points if point.knee)
    journal = places.folder / JOURNAL
    if journal.is_relative_to(Path.cwd()):
        journal = journal.relative_to(Path.cwd())
    return [
        f"autorank export {name} --knee --to {name}-adapter{places.runs}   "
        f"# {count(knee.adapter_params)} parameters, score {knee.score:.4f}",
        f"autorank front {name} --format json{places.runs}",
        f"autorank report {name}{places.runs}",
        f"autorank ui{places.runs}{places.store}",
        f"optuna-dashboard {shlex.quote(str(journal))}   # pip install optuna-dashboard",
    ]
