"""The command that ships a point of a front; `autorank.cli.app` puts it on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autorank.cli.results import Knee, MaxParams, MinScore, Step
from autorank.display.console import terminal
from autorank.options.shared import RUNS, Name, Runs, TrackingURI

FORM, WHERE = "Form", "Where to"


def export(
    name: Name,
    knee: Knee = False,
    max_params: MaxParams = None,
    min_score: MinScore = None,
    trial: Annotated[int | None, typer.Option(help="The best of this trial on the front.")] = None,
    step: Step = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write; new or empty.", rich_help_panel=WHERE)] = None,
    register: Annotated[
        str | None,
        typer.Option(
            help="A registered model in MLflow. Without a choice of point: knee, smallest and best, by these aliases.",
            metavar="MODEL", rich_help_panel=WHERE,
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(help="A repository on the Hub; a new one is private.", metavar="REPO", rich_help_panel=WHERE),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="A full transformers model rather than an adapter.", rich_help_panel=FORM),
    ] = False,
    pad: Annotated[
        bool,
        typer.Option("--pad", help="A PEFT adapter of one rank, for servers that want one.", rich_help_panel=FORM),
    ] = False,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:  # fmt: skip
    """Write a point of the front as a PEFT adapter, or merged into its base; register it; push it to the Hub.

    What PEFT has no adapter for is written in autorank's own format, which `autorank.load_adapter` reads.

    [dim]Example:[/] autorank export lora-drop-demo --max-params 20k --to adapter
    """
    from autorank.api import open_search
    from autorank.reporting.tables import count

    published = open_search(name, runs, tracking_uri).export(
        to, knee=knee, max_params=max_params, min_score=min_score, trial=trial, step=step, merge=merge, pad=pad,
        register=register, push_to_hub=push_to_hub,
    )  # fmt: skip
    point, form, console = published.point, published.form, terminal()
    what = f"{form[0].upper()}{form[1:]} of trial {point.trial}, step {point.step}"
    worth = f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
    if published.folder is not None:
        console.print(f"{what} in {published.folder}: {worth}")
    for version in published.versions:
        aliases = "".join(f", models:/{register}@{alias}" for alias in version.aliases)
        console.print(
            f"Trial {version.point.trial}, step {version.point.step}: models:/{register}/{version.number}{aliases}"
        )
    if published.address is not None:
        console.print(f"{what} at {published.address}: {worth}")
