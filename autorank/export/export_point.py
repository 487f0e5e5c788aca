"""A point as what others load: written in the form asked for, with its model card."""

from __future__ import annotations

import io
from pathlib import Path

from autorank.errors import AutorankError
from autorank.export.model_card import FIGURE, Found, command, model_card
from autorank.export.usage_snippets import Form
from autorank.modeling.adapter_file import Origin
from autorank.modeling.remote_code import trusting
from autorank.spec import TrainSpec
from autorank.trials.front import Point


def export_point(
    adapter: Path, to: Path, point: Point, train: TrainSpec, form: Form, found: Found | None = None
) -> None:
    """Write a point's adapter, with its card, in a form that `form_of` gave.

    With `found` the card has the front as a figure. The base's own code is run if it was in training.

    Raises:
        AutorankError: `to` is taken, or the base cannot be loaded.
    """
    from autorank.export import peft_export
    from autorank.modeling import adapter_file

    origin = adapter_file.origin(adapter)
    with trusting(train.task.trust_remote_code):
        card = model_card(point, train, origin, form, found)
        files = {} if found is None else {FIGURE: _figure(found, point)}
        if form == "autorank adapter":
            peft_export.to_own(adapter, to, card, files)
        elif form == "merged model":
            peft_export.to_merged(adapter, to, card, files, max_length(train, origin))
        else:
            peft_export.to_peft(adapter, to, card, files, max_length(train, origin), pad=form == "padded PEFT adapter")


def form_of(adapter: Path, point: Point, train: TrainSpec, merged: bool = False, padded: bool = False) -> Form:
    """As what a point's adapter is exported.

    That is merged into its base if asked for, else a PEFT adapter where PEFT can hold it (`padded`: of one rank), else
    autorank's own format.

    Raises:
        AutorankError: the adapter is not there (only those on the front are kept), or cannot have the form asked for.
    """
    from autorank.export import peft_export
    from autorank.modeling import adapter_file

    if not adapter.is_file():
        raise AutorankError(
            f"The adapter of trial {point.trial}, step {point.step} is not at {adapter}. Train it again:\n"
            f"  {command(train, point.config)} --to DIR"
        )
    if merged:
        peft_export.refuse_merging(adapter)
        return "merged model"
    if padded:
        peft_export.refuse_peft(adapter)
        return "padded PEFT adapter"
    return "PEFT adapter" if adapter_file.low_rank(adapter) else "autorank adapter"


def max_length(train: TrainSpec, origin: Origin) -> int | None:
    """Tokens at which texts are cut; None where they are written."""
    from autorank.tasks import TASKS
    from autorank.tasks.definition import Task

    if origin.kind == "generation":
        return None
    task = train.task
    return task.max_length or (Task.max_length if task.own_data else TASKS[task.name].max_length)


def _figure(found: Found, point: Point) -> bytes:
    """The front with the point ringed, as PNG."""
    from autorank.reporting.plots import front_figure

    content = io.BytesIO()
    front_figure(found.snapshot, found.spec.title, found.reference, point).savefig(content, format="png")
    return content.getvalue()
