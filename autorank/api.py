"""autorank in Python: functions with the commands' names, whose keyword arguments are the commands' options.

What belongs to a command line alone is not there: `config`, `dry_run`, and the tables of papers (`recipe`, `rows`,
`scale`, `seeds`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.display.formatting import varied
from autorank.errors import AutorankError
from autorank.options.calls import ResumeCall, SearchCall, TrainCall
from autorank.options.groups import keywords
from autorank.options.parsing import expand, point_choice
from autorank.options.shared import RUNS, read_search
from autorank.reporting.python_views import Front, Ranks, enable_inline_figures
from autorank.runner import Trained, run_search, run_training
from autorank.trials.front import Point, candidates, hypervolume, pick

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from autorank.export.publish import Published
    from autorank.spec import SearchSpec

PAGE, HTML = "report.html", (".html", ".htm")


@keywords(SearchCall)
def search(call: SearchCall) -> Search:
    """Search the settings of one method or several for the front of parameters against score.

    The same call again goes on where it stopped; more trials extend a finished search. What the command line has as
    text may be what it stands for: a list of methods, a number, a dict of settings, a dict as the space.

    Raises:
        AutorankError: an option that is refused; data, model or resources that cannot be had.
        KeyboardInterrupt: after Ctrl-C; nothing that was found is lost.
    """
    spec = call.spec()
    _run(spec, call)
    return Search(spec.name, call.runs, call.tracking_uri)


@keywords(TrainCall)
def train(call: TrainCall) -> Trained:
    """Train once with one setting, without Ray.

    Raises:
        AutorankError: an option that is refused, or no evaluation had a finite score.
    """
    return run_training(call)


def open_search(name: str, runs: Path | str = RUNS, tracking_uri: str | None = None) -> Search:
    """The search of this name in the folder of runs, as it is now.

    Raises:
        AutorankError: there is none.
    """
    return Search(name, runs, tracking_uri)


class Search:
    """A search on disk, as it was when it was opened.

    Attributes:
        name, folder, spec: of the search.
        front, control: the points of the methods' front and of the control's, by rising parameters.
        trials: a record of each that was started, by number.
        hypervolume: share of the box from 0 to the space's largest adapter, and from score 0 to 1, that the front
            dominates.
    """

    def __init__(self, name: str, runs: Path | str = RUNS, tracking_uri: str | None = None) -> None:
        self.name, self._runs, self._tracking_uri = name, expand(runs), tracking_uri
        self._read()

    def _read(self) -> None:
        self._journal, self._snapshot = read_search(self.name, self._runs)
        self.folder, self.spec, self._reference = self._journal.folder, self._journal.spec, self._journal.reference
        self.front = Front(self._snapshot.points, self._snapshot, varied(self.spec))
        self.control = Front(self._snapshot.control)
        self.trials, self.hypervolume = self._snapshot.trials, hypervolume(self.front, self._reference)

    @keywords(ResumeCall, but=("runs",))
    def resume(self, call: ResumeCall) -> Search:
        """Go on with the search where it is; with more `trials`, 30 in all or "+20", extend it.

        Raises:
            AutorankError: an option that is refused; data, model or resources that cannot be had.
            KeyboardInterrupt: after Ctrl-C; nothing that was found is lost.
        """
        self._tracking_uri = call.tracking_uri or self._tracking_uri
        _run(self.spec, replace(call, runs=self._runs, tracking_uri=self._tracking_uri))
        self._read()
        return self

    def to_frame(self) -> pd.DataFrame:
        """The front, a row a point: metrics as `metrics.NAME`, settings as `config.NAME`."""
        return self.front.to_frame()

    def pick(
        self, *, knee: bool = False, max_params: str | int | None = None, min_score: float | None = None,
        trial: int | None = None, step: int | None = None,
    ) -> Point:  # fmt: skip
        """A point of the front, its knee if nothing else is call for; of one `trial`, the control's too.

        Raises:
            AutorankError: no point is as call for.
        """
        return pick(self._kept(trial), **point_choice(knee, max_params, min_score, trial, step))

    def export(
        self, to: Path | str | None = None, *, knee: bool = False, max_params: str | int | None = None,
        min_score: float | None = None, trial: int | None = None, step: int | None = None, merge: bool = False,
        pad: bool = False, register: str | None = None, push_to_hub: str | None = None,
    ) -> Published:  # fmt: skip
        """Write a point of the front, its knee by default, as a PEFT adapter; the options of `autorank export`.

        Args:
            to: folder to write; must not exist.
            merge, pad: as a full transformers model; as an adapter of one rank.
            register: a registered model in MLflow. Without a choice of point: knee, smallest and best, by these names.
            push_to_hub: a repository on the Hub.

        Raises:
            AutorankError: no point is as call for, or it cannot be shipped so.
        """
        from autorank.export.publish import publish_points

        call = point_choice(knee, max_params, min_score, trial, step)
        chosen = pick(self._kept(trial), **call) if knee or any(each is not None for each in call.values()) else None
        return publish_points(
            self._journal, self._snapshot, chosen, None if to is None else expand(to), merge=merge, pad=pad,
            register=register, push_to_hub=push_to_hub, tracking_uri=self._tracking_uri,
        )  # fmt: skip

    def ranks(
        self, *, knee: bool = False, max_params: str | int | None = None, min_score: float | None = None,
        trial: int | None = None, step: int | None = None, to: Path | str | None = None,
    ) -> Ranks:  # fmt: skip
        """Layer -> its rank at a point of the front; of one `trial`, on the front or not, at its best.

        Args:
            to: write them to this file too: .json for programs, or .png.

        Raises:
            AutorankError: no point is as call for, it has no low-rank updates, or `to` says no format.
        """
        file = None if to is None else expand(to)
        if file is not None and file.suffix not in (".json", ".png"):
            raise AutorankError(f"--to {to} names no format that ranks are written in: let it end in .json or .png.")
        call, points = point_choice(knee, max_params, min_score, trial, step), self._kept(trial)
        if trial is not None and not any(point.trial == trial and step in (None, point.step) for point in points):
            points = candidates(self.trials)  # unlike adapters, ranks are kept of every evaluation
        point = pick(points, **call)
        ranks = Ranks(next(e.ranks for e in self.trials[point.trial].evaluations if e.step == point.step), point)
        where = f"trial {point.trial}, step {point.step}"
        if not ranks:
            raise AutorankError(
                f"There are no ranks: {where} of {self.name} has no low-rank updates. Choose another --trial."
            )
        if file is not None:
            ranks.write(file, f"{self.name}: {where}")
        return ranks

    def _kept(self, trial: int | None) -> list[Point]:
        """The points to choose from: adapters of the control's front are kept too, but only by trial one is meant."""
        return [*self.front, *self.control] if trial is not None else self.front

    def report(self, to: Path | str | None = None, figures: Path | str | None = None) -> Path:
        """Write the search's report, one HTML file that needs no network, and return where.

        Args:
            to: the file; None: report.html in the search's folder.
            figures: write pictures into this folder too, as PNG and SVG.
        """
        from autorank.reporting import html_report

        file = self.folder / PAGE if to is None else expand(to)
        if file.suffix not in HTML:
            raise AutorankError(
                f"--to {to} is no name for a page; let it end in .html. For PNG and SVG: --figures DIR."
            )
        html_report.write_page(html_report.render_report(self._snapshot, self.spec, self._reference, self._runs), file)
        if figures is not None:
            html_report.write_figures(self._snapshot, self.spec, self._reference, expand(figures))
        return file

    def figure(self) -> Figure:
        """The front as a figure, which a notebook shows."""
        from autorank.reporting.plots import front_figure

        enable_inline_figures()
        return front_figure(self._snapshot, self.spec.title, self._reference)

    def __repr__(self) -> str:
        return f"<Search {self.name!r}: {len(self.trials)} trials, {len(self.front)} points on the front>"


def _run(spec: SearchSpec, call: ResumeCall) -> None:
    if run_search(spec, call, commands=False).ending == "interrupted":
        raise KeyboardInterrupt
