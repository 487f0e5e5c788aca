"""A point as what others load: written in the form asked for, with its model card."""

from __future__ import annotations

import io
from pathlib import Path

from autorank.errors import AutorankError
from autorank.modeling.adapter_file import Origin
from autorank.modeling.trust import trusting
from autorank.results.card import FIGURE, Found, command, model_card
from autorank.results.front import Point
from autorank.results.usage import Form
from autorank.spec import TrainSpec


def export_point(
    adapter: Path, to: Path, point: Point, train: TrainSpec, form: Form, found: Found | None = None
) -> None:
    """Write a point's adapter, with its card, in a form that `form_of` gave.

    With `found` the card has the front as a figure. The base's own code is run if it was in training.

    Raises:
        AutorankError: `to` is taken, or the base cannot be loaded.
    """
    from autorank.modeling import adapter_file, export

    origin = adapter_file.origin(adapter)
    with trusting(train.task.trust_remote_code):
        card = model_card(point, train, origin, form, found)
        files = {} if found is None else {FIGURE: _figure(found, point)}
        if form == "autorank adapter":
            export.to_own(adapter, to, card, files)
        elif form == "merged model":
            export.to_merged(adapter, to, card, files, max_length(train, origin))
        else:
            export.to_peft(adapter, to, card, files, max_length(train, origin), pad=form == "padded PEFT adapter")


def form_of(adapter: Path, point: Point, train: TrainSpec, merged: bool = False, padded: bool = False) -> Form:
    """As what a point's adapter is exported.

    That is merged into its base if asked for, else a PEFT adapter where PEFT can hold it (`padded`: of one rank), else
    autorank's own format.

    Raises:
        AutorankError: the adapter is not there (only those on the front are kept), or cannot have the form asked for.
    """
    from autorank.modeling import adapter_file, export

    if not adapter.is_file():
        raise AutorankError(
            f"The adapter of trial {point.trial}, step {point.step} is not at {adapter}. Train it again:\n"
            f"  {command(train, point.config)} --to DIR"
        )
    if merged:
        export.refuse_merging(adapter)
        return "merged model"
    if padded:
        export.refuse_peft(adapter)
        return "padded PEFT adapter"
    return "PEFT adapter" if adapter_file.low_rank(adapter) else "autorank adapter"


def max_length(train: TrainSpec, origin: Origin) -> int | None:
    """Tokens at which texts are cut; None where they are written."""
    from autorank.tasks import TASKS
    from autorank.tasks.task import Task

    if origin.kind == "generation":
        return None
    task = train.task
    return task.max_length or (Task.max_length if task.own_data else TASKS[task.name].max_length)


def _figure(found: Found, point: Point) -> bytes:
    """The front with the point ringed, as PNG."""
    from autorank.results.plots import front_figure

    content = io.BytesIO()
    front_figure(found.snapshot, found.spec.title, found.reference, point).savefig(content, format="png")
    return content.getvalue()
