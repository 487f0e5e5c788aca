"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autorank.cli.results import Knee, MaxParams, MinGainProbability, MinScore, Step
from autorank.display.console import terminal
from autorank.options.shared import RUNS, Name, Runs, TrackingURI

FORM, DESTINATION = "Form", "Destination"


def export(
    name: Name,
    knee: Knee = False,
    max_params: MaxParams = None,
    min_score: MinScore = None,
    min_gain_probability: MinGainProbability = None,
    trial: Annotated[int | None, typer.Option(help="Choose the best point of this trial on the front.")] = None,
    step: Step = None,
    to: Annotated[
        Path | None, typer.Option(help="Directory to write; must be new or empty.", rich_help_panel=DESTINATION)
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            help="Name of a registered model in MLflow. If no point is chosen, three are registered, with the aliases "
            "knee, smallest and best.",
            metavar="MODEL",
            rich_help_panel=DESTINATION,
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Name of a repository on the Hub; a new one is private.", metavar="REPO", rich_help_panel=DESTINATION
        ),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write a full transformers model rather than an adapter.", rich_help_panel=FORM),
    ] = False,
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Pad the adapter to one rank in all layers, for servers that require it.",
            rich_help_panel=FORM,
        ),
    ] = False,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Write a point of the front as a PEFT adapter or a merged model, register it in MLflow, or push it to the Hub.

    Methods that PEFT cannot represent are written in autorank's own format, which `autorank.load_adapter` reads.

    Example: autorank export lora-drop-demo --max-params 20k --to adapter
    """
    from autorank.api import open_search
    from autorank.reporting.tables import count

    published = open_search(name, runs, tracking_uri).export(
        to, knee=knee, max_params=max_params, min_score=min_score, min_gain_probability=min_gain_probability,
        trial=trial, step=step, merge=merge, pad=pad, register=register, push_to_hub=push_to_hub,
    )  # fmt: skip
    point, form, console = published.point, published.form, terminal()
    label = f"{form[0].upper()}{form[1:]} of {point.label}"
    summary = f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
    if published.folder is not None:
        console.print(f"{label} written to {published.folder}: {summary}")
    for version in published.versions:
        aliases = "".join(f", models:/{register}@{alias}" for alias in version.aliases)
        console.print(f"{version.point.label.capitalize()}: models:/{register}/{version.number}{aliases}")
    if published.address is not None:
        console.print(f"{label} pushed to {published.address}: {summary}")
