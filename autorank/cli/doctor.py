"""The command that looks at the machine; `autorank.cli.app` puts it on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from autorank.display.console import terminal
from autorank.options.shared import RUNS, Runs, TrackingURI

COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a list of objects.")] = False,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Look whether all is there that autorank needs, and say what to do where it is not.

    Nothing is started. The exit code is 1 if anything is a problem; a note is none.

    [dim]Example:[/] autorank doctor --runs /shared/runs
    """
    from autorank.doctor import findings

    found, console = [], terminal()
    for finding in findings(runs, tracking_uri):
        found.append(finding)
        if not as_json:
            _line(finding.state, COLOURS[finding.state], finding.what, finding.text)
            if finding.remedy:
                _line("", "", "", f"→ {finding.remedy}")
    problems = sum(finding.state == "problem" for finding in found)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    else:
        ended = {0: "Nothing is in the way.", 1: "One problem."}
        console.print(f"\n{ended.get(problems, f'{problems} problems.')}")
    if problems:
        raise typer.Exit(1)


def _line(state: str, colour: str, what: str, text: str) -> None:
    """One line, as soon as it is known, for some take seconds; a long text stays in its column."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (7, 16):
        table.add_column(width=width, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(state, colour), what, Text(text))
    terminal().print(table, soft_wrap=False)
