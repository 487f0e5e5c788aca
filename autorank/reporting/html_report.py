"""A search's report as one HTML file that works offline, and its pictures for papers."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.reporting.html import sections
from autorank.reporting.html.document import document
from autorank.reporting.html.figures import third_text
from autorank.reporting.html.rank_maps import ranks_at
from autorank.reporting.tables import setting
from autorank.spec import SearchSpec
from autorank.trials.confirmation_stats import best_gain, summarise
from autorank.trials.front import History, Point
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 300  # of the PNGs
RUNS = Path("runs")  # where commands look by themselves


def report(snapshot: Snapshot, spec: SearchSpec, reference: tuple[float, float], runs: Path | None = None) -> str:
    """The page: equal for equal journals.

    Args:
        runs: the folder of runs, for commands in the page; None: the default one.
    """
    shown: sections.Figures = {}
    content = [
        sections.front(snapshot, reference, shown),
        sections.growth(snapshot, spec, reference, shown),
        sections.curves(snapshot, shown),
        sections.rank_map_section(snapshot, shown),
        sections.what_settings_did(snapshot, spec, shown),
        sections.trials(snapshot),
    ]
    methods = ", ".join(entry.method for entry in spec.methods)
    about = f"{methods} on {spec.task.name}" + (f", {spec.model}" if spec.model else "")
    head = f'<h1 id="title">{escape(spec.name)}</h1><p id="about">{escape(about)}</p>'
    body = f"<header>{head}{sections.summary(snapshot, reference)}</header>" + "".join(content)
    return document(spec.title, body, shown, _points(snapshot, spec, runs))


def write_figures(snapshot: Snapshot, spec: SearchSpec, reference: tuple[float, float], folder: Path) -> list[Path]:
    """The front, its hypervolume and the ranks at its knee as PNG and SVG files, equal for equal journals."""
    from autorank.reporting.plots import front_figure, hypervolume_figure, rank_map_figure

    drawn = {
        "front": front_figure(snapshot, spec.title, reference),
        "hypervolume": hypervolume_figure(History(reference, spec.objectives).update(snapshot.trials), reference),
    }
    for point in snapshot.points:
        if point.knee and (ranks := ranks_at(point, snapshot.trials)):
            drawn["ranks"] = rank_map_figure(ranks, f"{spec.name}: trial {point.trial}, step {point.step}")
    written = []
    for name, figure in drawn.items():
        for to in (folder / f"{name}.png", folder / f"{name}.svg"):
            save(figure, to)
            written.append(to)
    return written


def save(figure: Figure, to: Path) -> None:
    """A picture as a PNG or an SVG file, equal for equal pictures; folders on the way are made."""
    import matplotlib as mpl

    to.absolute().parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "autorank"}):
        figure.savefig(to, dpi=DPI, metadata={"Date": None} if to.suffix == ".svg" else None)


def write(text: str, to: Path) -> None:
    """A page as a file; folders on the way are made. Raises AutorankError if it cannot be written there."""
    try:
        with atomic_io.writing(to) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AutorankError(f"{to} cannot be written: {error.strerror}. Choose another --to.") from error


def export_command(name: str, point: Point, runs: Path | None, third: str | None = None) -> str:
    """Exports exactly this point of the front: of two objectives the best with no more parameters than it has."""
    which = ["--trial", str(point.trial), "--step", str(point.step)]
    if third is None:
        which = ["--max-params", str(max(point.adapter_params, 1))]
    words = ["autorank", "export", name, *which, "--to", f"{name}-adapter"]
    elsewhere = runs is not None and runs.resolve() != RUNS.resolve()
    return shlex.join([*words, *(["--runs", str(runs)] if elsewhere else [])])


def _points(snapshot: Snapshot, spec: SearchSpec, runs: Path | None) -> list[dict[str, Any]]:
    """What the slider picks from, and what it says of each; by rising parameters."""
    confirmed = summarise(snapshot.points, snapshot)
    rows = []
    for point in snapshot.points:
        facts = {"Parameters": f"{point.adapter_params:,}", "Score": f"{point.score:.4f}"}
        if snapshot.third:
            name, text = third_text(snapshot.third, point)
            facts[name.capitalize()] = text
        if found := confirmed.get((point.trial, point.step)):
            facts["Fresh seeds"] = str(found)
        if snapshot.control:
            above = best_gain(point, snapshot, found)
            facts["Gain over plain LoRA"] = "no plain LoRA is so small" if above is None else f"{above:+.4f}"
        facts |= {"Method": point.method, "Trial": f"{point.trial}, step {point.step}"}
        rows.append({
            "trial": point.trial, "step": point.step, "params": point.adapter_params, "score": point.score,
            "knee": point.knee, "facts": facts, "command": export_command(spec.name, point, runs, snapshot.third),
            "settings": {name: setting(value) for name, value in point.config.items()},
        })  # fmt: skip
    return rows
