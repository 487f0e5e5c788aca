"""The command `export`."""

from __future__ import annotations

from dataclasses import asdict

from autorank.defaults import RUNS
from autorank.display.console import terminal
from autorank.options.groups import with_options
from autorank.options.shared import ExportOptions, Name, Runs, TrackingURI


@with_options
def export(name: Name, options: ExportOptions, tracking_uri: TrackingURI = None, runs: Runs = RUNS) -> None:
    """Write a point of the front as a PEFT adapter or a merged model, register it in MLflow, or push it to the Hub.

    Methods that PEFT cannot represent are written in autorank's own format, which `autorank.load_adapter` reads.

    Example: autorank export lora-drop-demo --max-params 20k --to adapter
    """
    from autorank.api import open_search
    from autorank.reporting.tables import count

    published = open_search(name, runs, tracking_uri).export(**asdict(options))
    point, form, console = published.point, published.form, terminal()
    label = f"{form[0].upper()}{form[1:]} of {point.label}"
    summary = f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
    if published.folder is not None:
        console.print(f"{label} written to {published.folder}: {summary}")
    for version in published.versions:
        aliases = "".join(f", models:/{options.register}@{alias}" for alias in version.aliases)
        console.print(f"{version.point.label.capitalize()}: models:/{options.register}/{version.number}{aliases}")
    if published.address is not None:
        console.print(f"{label} pushed to {published.address}: {summary}")
