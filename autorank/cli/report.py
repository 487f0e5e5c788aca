"""The commands `report` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autorank.cli.results import Format
from autorank.defaults import RUNS
from autorank.display.console import terminal
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.parsing import check_output, expand
from autorank.options.shared import Name, Runs, read_search


def report(
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="HTML file to write. Default: report.html in the search's directory.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Directory to which the figures are written too, as PNG and SVG.")
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Write a search's report: one HTML file that needs no network.

    Example: autorank report lora-drop-demo --to report.html --figures figures
    """
    from autorank.api import open_search

    page = open_search(name, runs).report(to, figures)
    terminal().print(f"Report written to {page}")
    if figures is not None:
        terminal().print(f"Figures written to {figures}")


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of searches; each is compared with the first.",
            metavar="NAME NAME ...",
            autocompletion=completion.searches,
        ),
    ],
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
    to: Annotated[
        Path | None,
        typer.Option(help="File to which the fronts are drawn: .png, .svg or .html.", parser=expand, metavar="FILE"),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Compare the fronts of searches on the same data.

    Example: autorank compare lora-mrpc increlora-mrpc --to fronts.png
    """
    from autorank.api import HTML_SUFFIXES
    from autorank.reporting import compare as comparing
    from autorank.reporting.search_results import SearchResults

    if to is not None:
        check_output("--to", to, (".png", ".svg", *HTML_SUFFIXES))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise AutorankError(f"The search {twice[0]!r} is listed twice. Name each search once.")
    searches = []
    for name in names:
        journal, snapshot = read_search(name, runs)
        spec = journal.spec.model_copy(update={"name": name})  # a copy of a directory has the name of its original
        searches.append(SearchResults(spec, snapshot, journal.provenance.get("data")))
    rows = comparing.compare(searches)
    if format is Format.json:
        print(comparing.as_json(rows))
    elif format is Format.csv:
        print(comparing.as_csv(rows), end="")
    else:
        terminal().print(comparing.as_table(rows), soft_wrap=False)
        terminal().print(f"\n{comparing.NOTE}", style="dim", soft_wrap=False)
    if to is not None:
        from autorank.reporting.html import comparison
        from autorank.reporting.html_report import save_figure, write_page
        from autorank.reporting.plots import fronts_figure

        if to.suffix in HTML_SUFFIXES:
            write_page(comparison.render_comparison(searches, rows), to)
        else:
            save_figure(fronts_figure({search.spec.name: search.snapshot.points for search in searches}), to)
