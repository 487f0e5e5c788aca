"""autorank in Python: functions with the commands' names, whose keyword arguments are the commands' options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.options import RUNS, read_search, which
from autorank.options.calls import ResumeCall, SearchCall, TrainCall
from autorank.options.groups import grouped, keywords
from autorank.results.front import Point, candidates, hypervolume, pick
from autorank.results.shown import Front, Ranks, shown_inline
from autorank.running import Trained, conduct, trained

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from autorank.search.shipping import Shipped
    from autorank.spec import SearchSpec

PAGE = "report.html"


@keywords(SearchCall)
def search(asked: SearchCall) -> Search:
    """Search the settings of one method or several for the front of parameters against score.

    The same call again goes on where it stopped; more trials extend a finished search. What the command line has as
    text may be what it stands for: a list of methods, a number, a dict of settings, a dict as the space.

    Raises:
        AutorankError: an option that is refused; data, model or resources that cannot be had.
        KeyboardInterrupt: after Ctrl-C; nothing that was found is lost.
    """
    return _searched(asked.spec(), asked)


@keywords(TrainCall)
def train(asked: TrainCall) -> Trained:
    """Train once with one setting, without Ray.

    Raises:
        AutorankError: an option that is refused, or no evaluation had a finite score.
    """
    return trained(asked)


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
        self.name, self._runs, self._tracking_uri = name, Path(runs), tracking_uri
        self._read()

    def _read(self) -> None:
        self._journal, self._snapshot = read_search(self.name, self._runs)
        self.folder, self.spec, self._reference = self._journal.folder, self._journal.spec, self._journal.reference
        searched = list(dict.fromkeys(name for entry in self.spec.methods for name in entry.space))
        self.front = Front(self._snapshot.points, self._snapshot, searched)
        self.control = Front(self._snapshot.control)
        self.trials, self.hypervolume = self._snapshot.trials, hypervolume(self.front, self._reference)

    def resume(self, trials: str | int | None = None, **options: Any) -> Search:
        """Go on with the search; with more `trials`, 30 in all or "+20", extend it.

        Args:
            options: the others of `autorank resume`.
        """
        given = {"runs": self._runs, "tracking_uri": self._tracking_uri, "trials": trials} | options
        _searched(self.spec, grouped(ResumeCall, "resume", given))
        self._read()
        return self

    def to_frame(self) -> pd.DataFrame:
        """The front, a row a point: metrics as `metrics.NAME`, settings as `config.NAME`."""
        return self.front.to_frame()

    def pick(
        self, *, knee: bool = False, max_params: str | int | None = None, min_score: float | None = None,
        trial: int | None = None,
    ) -> Point:  # fmt: skip
        """A point of the front, its knee if nothing else is asked for; of one `trial`, the control's too.

        Raises:
            AutorankError: no point is as asked for.
        """
        return pick(self._kept(trial), **which(knee, max_params, min_score, trial))

    def export(
        self, to: Path | str | None = None, *, knee: bool = False, max_params: str | int | None = None,
        min_score: float | None = None, trial: int | None = None, merge: bool = False, pad: bool = False,
        register: str | None = None, push_to_hub: str | None = None,
    ) -> Shipped:  # fmt: skip
        """Write a point of the front, its knee by default, as a PEFT adapter; the options of `autorank export`.

        Args:
            to: folder to write; must not exist.
            merge, pad: as a full transformers model; as an adapter of one rank.
            register: a registered model in MLflow. Without a choice of point: knee, smallest and best, by these names.
            push_to_hub: a repository on the Hub.

        Raises:
            AutorankError: no point is as asked for, or it cannot be shipped so.
        """
        from autorank.search.shipping import ship

        asked = which(knee, max_params, min_score, trial)
        chosen = pick(self._kept(trial), **asked) if knee or any(each is not None for each in asked.values()) else None
        return ship(
            self._journal, self._snapshot, chosen, None if to is None else Path(to), merge=merge, pad=pad,
            register=register, push_to_hub=push_to_hub, tracking_uri=self._tracking_uri,
        )  # fmt: skip

    def ranks(
        self, *, knee: bool = False, max_params: str | int | None = None, min_score: float | None = None,
        trial: int | None = None, to: Path | str | None = None,
    ) -> Ranks:  # fmt: skip
        """Layer -> its rank at a point of the front; of one `trial`, on the front or not, at its best.

        Args:
            to: write them to this file too: .json for programs, or .png.

        Raises:
            AutorankError: no point is as asked for, it has no low-rank updates, or `to` says no format.
        """
        if to is not None and Path(to).suffix not in (".json", ".png"):
            raise AutorankError(f"--to {to} names no format that ranks are written in: let it end in .json or .png.")
        asked, points = which(knee, max_params, min_score, trial), self._kept(trial)
        if trial is not None and all(point.trial != trial for point in points):
            points = candidates(self.trials)  # unlike adapters, ranks are kept of every evaluation
        point = pick(points, **asked)
        ranks = Ranks(next(e.ranks for e in self.trials[point.trial].evaluations if e.step == point.step), point)
        where = f"trial {point.trial}, step {point.step}"
        if not ranks:
            raise AutorankError(
                f"There are no ranks: {where} of {self.name} has no low-rank updates. Choose another --trial."
            )
        if to is not None:
            ranks.write(Path(to), f"{self.name}: {where}")
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
        from autorank.results import page

        place = Path(to) if to is not None else self.folder / PAGE
        if place.suffix not in (".html", ".htm"):
            raise AutorankError(
                f"--to {to} is no name for a page; let it end in .html. For PNG and SVG: --figures DIR."
            )
        page.write(page.report(self._snapshot, self.spec, self._reference, self._runs), place)
        if figures is not None:
            page.write_figures(self._snapshot, self.spec, self._reference, Path(figures))
        return place

    def figure(self) -> Figure:
        """The front as a figure, which a notebook shows."""
        from autorank.results.plots import front_figure

        shown_inline()
        return front_figure(self._snapshot, self.spec.title, self._reference)

    def __repr__(self) -> str:
        return f"<Search {self.name!r}: {len(self.trials)} trials, {len(self.front)} points on the front>"


def _searched(spec: SearchSpec, asked: ResumeCall) -> Search:
    if conduct(spec, asked).ending == "interrupted":
        raise KeyboardInterrupt
    return Search(spec.name, asked.runs, asked.tracking_uri)
