"""The Python API: functions with the names of the commands, whose keyword arguments are the commands' options.

Options that only make sense on a command line are left out: `config`, `dry_run`, and those of recipes (`recipe`,
`rows`, `scale`, `seeds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.defaults import RUNS
from autorank.errors import AutorankError
from autorank.options.calls import ResumeCall, SearchCall, TrainCall
from autorank.options.groups import keywords
from autorank.options.parsing import check_output, expand
from autorank.options.shared import ExportOptions, PointOptions, RankOptions, read_search
from autorank.options.shrink import ShrinkCall
from autorank.reporting.python_views import Front, Ranks, enable_inline_figures
from autorank.runner import ShrinkResult, TrainResult, check_name, run_search, run_shrink, run_training
from autorank.trials.front import candidates
from autorank.trials.point import Point, ranks_at
from autorank.trials.selection import pick
from autorank.trials.statistics.front_statistics import front_statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from autorank.export.publish import Published
    from autorank.spec import SearchSpec

REPORT = "report.html"
HTML_SUFFIXES = (".html", ".htm")


@keywords(SearchCall)
def search(call: SearchCall) -> Search:
    """Search the settings of one or more methods for the Pareto front of adapter parameters against score.

    The same call again continues an unfinished search; more `trials` extend a finished one. Options that are text on
    the command line may also be Python values: a list of methods, a number, a dict of settings, a dict as the space.

    Returns:
        The search as it is at its end.

    Raises:
        AutorankError: An option is invalid, or data, model or resources are not available.
        KeyboardInterrupt: After Ctrl-C; all results are kept.
    """
    spec = call.spec()
    _run(spec, call)
    return Search(spec.name, call.runs, call.tracking_uri)


@keywords(TrainCall)
def train(call: TrainCall) -> TrainResult:
    """Train once with one setting, without Ray.

    Returns:
        All evaluations, the best one as a point, and the adapter's directory.

    Raises:
        AutorankError: An option is invalid, or no evaluation had a finite score.
    """
    return run_training(call)


@keywords(ShrinkCall)
def shrink(adapter: Path | str, call: ShrinkCall) -> ShrinkResult:
    """Cut a trained LoRA adapter to smaller sizes, score them and write one of them. Any PEFT adapter will do.

    The adapter is the only positional argument: `shrink("my-adapter", task="mrpc", max_score_drop=0.01, to="smaller")`.

    Returns:
        All sizes, the chosen one, and the directory of the written adapter.

    Raises:
        AutorankError: An option is invalid, the adapter cannot be cut, or it does not fit the task.
    """
    return run_shrink(str(adapter), call)


def open_search(name: str, runs: Path | str = RUNS, tracking_uri: str | None = None) -> Search:
    """Open a search on disk.

    Args:
        name: The search's name.
        runs: The directory of all searches.
        tracking_uri: Address of the MLflow store. None: MLFLOW_TRACKING_URI, else the search's last one.

    Returns:
        The search as it is now.

    Raises:
        AutorankError: There is no such search.
    """
    return Search(name, runs, tracking_uri)


class Search:
    """A search on disk, as it was when it was opened.

    Args:
        name: The search's name.
        runs: The directory of all searches.
        tracking_uri: Address of the MLflow store. None: MLFLOW_TRACKING_URI, else the search's last one.

    Attributes:
        name: The search's name.
        folder: Its directory.
        spec: Its `SearchSpec`.
        front: The points of the methods' front, in ascending order of adapter parameters.
        baseline: The points of the baseline's front.
        trials: The records of all trials that were started, by number.
        hypervolume: Fraction, dominated by the front, of the box from 0 to the space's largest adapter and from score
            0 to 1.

    Raises:
        AutorankError: There is no such search.
    """

    def __init__(self, name: str, runs: Path | str = RUNS, tracking_uri: str | None = None) -> None:
        self.name, self._runs, self._tracking_uri = name, expand(runs), tracking_uri
        self._read()

    def _read(self) -> None:
        self._journal, self._snapshot = read_search(self.name, self._runs)
        self.folder, self.spec = self._journal.folder, self._journal.spec
        self.front = Front(self._snapshot.points, self._snapshot, self.spec.searched_settings)
        self.baseline = Front(self._snapshot.baseline)
        self.trials, self.hypervolume = self._snapshot.trials, self._snapshot.hypervolume

    @keywords(ResumeCall, but=("runs",))
    def resume(self, call: ResumeCall) -> Search:
        """Continue the search; with more `trials`, 30 in total or "+20", extend it.

        Returns:
            This search, updated.

        Raises:
            AutorankError: An option is invalid, or data, model or resources are not available.
            KeyboardInterrupt: After Ctrl-C; all results are kept.
        """
        check_name(self._journal, self.name)
        self._tracking_uri = call.tracking_uri or self._tracking_uri
        _run(self.spec, replace(call, runs=self._runs, tracking_uri=self._tracking_uri))
        self._read()
        return self

    def to_frame(self) -> pd.DataFrame:
        """Return the front, one row per point: metrics as `metrics.NAME`, settings as `settings.NAME`."""
        return self.front.to_frame()

    @keywords(PointOptions)
    def pick(self, options: PointOptions) -> Point:
        """Choose a point of the front, by default its knee.

        Returns:
            The point.

        Raises:
            AutorankError: No point matches.
        """
        return self._pick(self._exportable(options.trial), options.choice())

    @keywords(ExportOptions)
    def export(self, options: ExportOptions) -> Published:
        """Write a point of the front, by default its knee, as a PEFT adapter.

        Returns:
            The point and where it was written.

        Raises:
            AutorankError: No point matches, or it cannot be written in this form.
        """
        from autorank.export.publish import publish_points

        choice = options.choice()
        is_chosen = options.knee or any(value is not None for value in choice.values())
        point = self._pick(self._exportable(options.trial), choice) if is_chosen else None
        return publish_points(
            self._journal, self._snapshot, point, None if options.to is None else expand(options.to),
            merge=options.merge, pad=options.pad, register=options.register, push_to_hub=options.push_to_hub,
            tracking_uri=self._tracking_uri,
        )  # fmt: skip

    @keywords(RankOptions)
    def ranks(self, options: RankOptions) -> Ranks:
        """Return the rank of each layer at a point of the front, by default its knee.

        Returns:
            A dict, layer -> rank.

        Raises:
            AutorankError: No point matches, it has no low-rank updates, or `to` has another suffix.
        """
        trial, step = options.trial, options.step
        file = None if options.to is None else expand(options.to)
        if file is not None:
            check_output("--to", file, (".json", ".png"))
        choice = options.choice()
        points = self._exportable(trial)
        if trial is not None and not any(point.trial == trial and step in (None, point.step) for point in points):
            points = candidates(self.trials)  # ranks, unlike adapters, are stored for every evaluation
        point = self._pick(points, choice)
        ranks = Ranks(ranks_at(point, self.trials), point)
        if not ranks:
            raise AutorankError(
                f"{self.name}: {point.label} has no low-rank updates, so no ranks. Choose another --trial."
            )
        if file is not None:
            ranks.write(file, f"{self.name}: {point.label}")
        return ranks

    def _pick(self, points: Sequence[Point], choice: dict[str, Any]) -> Point:
        by_gain_probability = choice["min_gain_probability"] is not None
        return pick(
            points,
            **choice,
            better=front_statistics(self._snapshot).gain_probabilities if by_gain_probability else None,
        )

    def _exportable(self, trial: int | None) -> list[Point]:
        """The points with an adapter on disk; those of the baseline only if a trial is chosen."""
        return [*self.front, *self.baseline] if trial is not None else self.front

    def report(self, to: Path | str | None = None, figures: Path | str | None = None) -> Path:
        """Write the search's report, an HTML file that needs no network.

        Args:
            to: The file. None: report.html in the search's directory.
            figures: Directory to which the figures are written too, as PNG and SVG.

        Returns:
            The file.

        Raises:
            AutorankError: `to` does not end in .html or .htm, or a file cannot be written.
        """
        from autorank.reporting import html_report

        file = self.folder / REPORT if to is None else expand(to)
        if file.suffix not in HTML_SUFFIXES:
            raise AutorankError(
                f"--to {to} is not an HTML file. Choose a name that ends in .html. For PNG and SVG: --figures DIR."
            )
        if figures is not None:
            check_output("--figures", expand(figures))
        spec = self.spec.model_copy(update={"name": self.folder.name})  # its commands work for a renamed directory too
        html_report.write_page(html_report.render_report(self._snapshot, spec, self._runs), file)
        if figures is not None:
            html_report.write_figures(self._snapshot, spec, expand(figures))
        return file

    def figure(self) -> Figure:
        """Return the front as a Matplotlib figure, which notebooks display."""
        from autorank.reporting.plots import front_figure

        enable_inline_figures()
        return front_figure(self._snapshot, self.spec.title)

    def __repr__(self) -> str:
        return f"<Search {self.name!r}: {len(self.trials)} trials, {len(self.front)} points on the front>"


def _run(spec: SearchSpec, call: ResumeCall) -> None:
    if run_search(spec, call, suggest_commands=False).ending == "interrupted":
        raise KeyboardInterrupt
