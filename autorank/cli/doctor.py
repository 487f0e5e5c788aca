"""The command `doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from autorank.defaults import RUNS
from autorank.display.console import terminal
from autorank.options.shared import Runs, TrackingURI

COLORS = {"ok": "green", "note": "yellow", "problem": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects, for programs.")] = False,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Check the installation and suggest fixes.

    Nothing is started. The exit code is 1 if there is a problem; notes do not count.

    Example: autorank doctor --runs /shared/runs
    """
    from autorank.doctor import findings

    results, console = [], terminal()
    for finding in findings(runs, tracking_uri):
        results.append(finding)
        if not as_json:
            _line(finding.state, COLORS[finding.state], finding.subject, finding.text)
            if finding.remedy:
                _line("", "", "", f"→ {finding.remedy}")
    problems = sum(finding.state == "problem" for finding in results)
    if as_json:
        print(json.dumps([asdict(finding) for finding in results], indent=2, ensure_ascii=False))
    else:
        counts = {0: "No problems found.", 1: "1 problem found."}
        console.print(f"\n{counts.get(problems, f'{problems} problems found.')}")
    if problems:
        raise typer.Exit(1)


def _line(state: str, color: str, subject: str, text: str) -> None:
    """Print one finding at once, since some checks take seconds; a long text stays in its column."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (7, 16):
        table.add_column(width=width, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(state, color), subject, Text(text))
    terminal().print(table, soft_wrap=False)
