"""Display in a notebook: a progress bar, and the front as a table at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autorank.display.base import Display, Locations
from autorank.display.progress import Pace
from autorank.display.summary import notes
from autorank.reporting.notebook_html import table_html
from autorank.reporting.tables import front_table
from autorank.spec import SearchSpec
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


class ProgressBar(Display):
    """A tqdm bar of trials with the best score, the hypervolume and the remaining time.

    Args:
        spec: The search.
        seconds: Its time budget in seconds, or None.
        locations: Where it is stored.
    """

    def __init__(self, spec: SearchSpec, seconds: float | None, locations: Locations) -> None:
        self._spec, self._locations, self._pace = spec, locations, Pace(seconds)
        self._bar: Any = None

    def __enter__(self) -> ProgressBar:
        logging.getLogger("ray.widgets").setLevel(logging.WARNING)  # silences repeated requests for ipywidgets
        from tqdm.auto import tqdm  # a text bar with a warning where ipywidgets is missing

        bar_format = "{desc}: {bar} {n_fmt}/{total_fmt} trials{postfix}"
        self._bar = tqdm(desc=self._spec.name, total=None, bar_format=bar_format)
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @override
    def update(self, snapshot: Snapshot) -> None:
        progress = self._pace(snapshot)
        if self._bar.total != progress.requested:
            self._bar.reset(total=progress.requested)
        self._bar.n = progress.ended
        self._bar.set_postfix_str(", ".join([*progress.states, *progress.result, *progress.pace]))

    @override
    def inform(self, message: str) -> None:
        print(message)

    @override
    def end(self, outcome: Outcome) -> None:
        from IPython.display import HTML, display

        if points := outcome.snapshot.points:
            display(HTML(table_html(front_table(points, outcome.snapshot, self._spec.searched_settings))))
        for note in notes(self._spec.name, outcome, self._locations):
            print(note)
