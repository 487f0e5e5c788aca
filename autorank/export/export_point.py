"""Writes one point of a front to a directory: its weights in the requested form, its tokenizer and its model card."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from autorank.errors import AutorankError
from autorank.export.cards.model_card import FIGURE, model_card, train_command
from autorank.export.cards.usage_snippets import Form
from autorank.export.merge import check_mergeable, write_merged
from autorank.export.output_dir import complete_dir
from autorank.export.peft_export import check_low_rank, peft_adapts, write_peft
from autorank.modeling import adapter_file, spectrum
from autorank.modeling.loading.remote_code import trusting
from autorank.reporting.search_results import SearchResults
from autorank.spec import TrainSpec
from autorank.trials.point import Point


@dataclass(frozen=True)
class PointExport:
    """An export that has been checked and can be written.

    Attributes:
        adapter: The file of the trained adapter; a slice is cut from it.
        point: The point of the front.
        train: How the adapter was trained.
        form: The form to write.
        origin: The base model and the head of the adapter.
    """

    adapter: Path
    point: Point
    train: TrainSpec
    form: Form
    origin: adapter_file.Origin

    def write(self, folder: Path, search: SearchResults | None = None) -> None:
        """Write the export.

        The base model's own code is run if it was allowed in training.

        Args:
            folder: The directory to create.
            search: The search of the point; adds the front's figure to the card.

        Raises:
            AutorankError: `folder` exists and is not empty, the base model cannot be loaded, or a PEFT adapter cannot
                represent the adapter.
        """
        with trusting(self.train.task.trust_remote_code), complete_dir(folder) as partial:
            with tempfile.TemporaryDirectory(dir=partial) as scratch:
                self._write_weights(self._point_adapter(Path(scratch)), partial)
            card = model_card(self.point, self.train, self.origin, self.form, search)
            (partial / "README.md").write_text(card, encoding="utf-8")
            if search is not None:
                (partial / FIGURE).write_bytes(_figure(search, self.point))

    def _point_adapter(self, scratch: Path) -> Path:
        """The file of the point's adapter: the trained one, or a slice of it in a temporary directory."""
        if self.point.component_masks is None:
            return self.adapter
        whole, origin = adapter_file.load(self.adapter, dtype=torch.bfloat16)  # the base's weights are not used
        spectrum.cut(whole.model, self.point.component_masks)
        adapter_file.save(scratch / adapter_file.FILE, whole, origin)
        return scratch / adapter_file.FILE

    def _write_weights(self, adapter: Path, folder: Path) -> None:
        if self.form == "autorank adapter":
            shutil.copyfile(adapter, folder / adapter_file.FILE)
        elif self.form == "merged model":
            write_merged(adapter, folder, _max_length(self.train, self.origin))
        else:
            padded = self.form == "padded PEFT adapter"
            write_peft(adapter, folder, _max_length(self.train, self.origin), padded)


def plan_export(adapter: Path, point: Point, train: TrainSpec, merge: bool = False, pad: bool = False) -> PointExport:
    """Choose the form of an export and check that the adapter can have it.

    The form is a merged model with `merge`, else a PEFT adapter if PEFT can represent the adapter (with one rank with
    `pad`), else autorank's own format.

    Args:
        adapter: The file of the trained adapter.
        point: The point of the front.
        train: How the adapter was trained.
        merge: Request a merged model.
        pad: Request a PEFT adapter with one rank for all layers.

    Returns:
        The export, not yet written.

    Raises:
        AutorankError: The adapter file does not exist (only adapters on the front are kept), or cannot have the
            requested form.
    """
    if not adapter.is_file():
        raise AutorankError(
            f"The adapter of trial {point.trial}, step {point.step} does not exist at {adapter}. To train it again:\n"
            f"  {train_command(train, point.settings)} --to DIR"
        )
    has_updates = adapter_file.low_rank(adapter) and (
        point.component_masks is None or any(point.component_masks.values())
    )
    with trusting(train.task.trust_remote_code):
        for_peft = has_updates and not merge and peft_adapts(adapter)
    form: Form
    if merge:
        check_mergeable(adapter)
        form = "merged model"
    elif pad:
        check_low_rank(adapter)
        if not has_updates:
            raise AutorankError(
                f"{point.label.capitalize()} has no low-rank updates, so there is nothing to pad. Omit --pad."
            )
        if not for_peft:
            raise AutorankError(
                "PEFT takes names of adapted layers for the experts of this model, so it cannot hold the adapter. "
                "Omit --pad to export it in autorank's own format, or use --merge."
            )
        form = "padded PEFT adapter"
    else:
        form = "PEFT adapter" if for_peft else "autorank adapter"
    return PointExport(adapter, point, train, form, adapter_file.origin(adapter))


def _max_length(train: TrainSpec, origin: adapter_file.Origin) -> int | None:
    """Tokens at which texts are truncated; None for generation, which has no such limit."""
    from autorank.tasks import TASKS
    from autorank.tasks.definition import Task

    if origin.head.generates:
        return None
    task = train.task
    return task.max_length or (Task.max_length if task.own_data else TASKS[task.name].max_length)


def _figure(search: SearchResults, point: Point) -> bytes:
    """The front with the point circled, as PNG."""
    from autorank.reporting.plots import front_figure, png

    return png(front_figure(search.snapshot, search.spec.title, point))
