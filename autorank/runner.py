"""Runs searches and trainings and displays their progress, for the command line and for Python."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.display.console import terminal
from autorank.errors import AutorankError, require_posix
from autorank.options.calls import ResumeCall, TrainCall
from autorank.options.parsing import check_output, expand
from autorank.options.shared import runs_option
from autorank.options.shrink import ShrinkCall
from autorank.redaction import hide
from autorank.training.evaluation import Evaluation
from autorank.trials.point import Point

if TYPE_CHECKING:
    from autorank.searching.search import Outcome
    from autorank.shrinking.cutting import Size
    from autorank.spec import SearchSpec
    from autorank.trials.journal.journal import Journal


@dataclass(frozen=True)
class TrainResult:
    """The result of one training.

    Attributes:
        best: The best evaluation, as a point.
        evaluations: All evaluations.
        adapter: Directory of the best evaluation's adapter, or None if it was not written.
    """

    best: Point
    evaluations: list[Evaluation] = field(repr=False)
    adapter: Path | None


def run_training(call: TrainCall) -> TrainResult:
    """Train once and print the evaluations.

    Args:
        call: The options of `train`.

    Returns:
        The result, with all evaluations.

    Raises:
        AutorankError: An option is invalid, or no evaluation had a finite score.
    """
    from autorank.display.base import Display
    from autorank.display.train_display import follow
    from autorank.export import output_dir
    from autorank.export.export_point import plan_export
    from autorank.training.run import TrainingRun

    require_posix()
    spec, to, console = call.spec(), None if call.to is None else expand(call.to), terminal(call.quiet)
    training = TrainingRun(spec)
    with output_dir.work_dir(to) as scratch:  # fails now if the directory cannot be written
        best, exported = scratch / "best.safetensors", scratch / "exported"
        with nullcontext() if to is None else output_dir.keep_on_failure(best, to):
            point, evaluations = follow(console, training, best, Display().warn)
            if to is not None:
                plan_export(best, point, spec).write(exported)
                output_dir.move_into_place(exported, to)
                console.print(f"Adapter of step {point.step} written to {to}")
    return TrainResult(point, evaluations, to)


@dataclass(frozen=True)
class ShrinkResult:
    """Sizes to which an adapter can be cut.

    Attributes:
        sizes: The sizes in ascending order of adapter parameters, the chosen one among them, the whole adapter last.
        chosen: The chosen size as it is written: after `--steps` of training, unless they lowered its score.
        adapter: Directory of the written adapter, or None if none was written.
        notes: What was done, one line each.
        data_notes: How the labels were interpreted, and warnings about the data.
    """

    sizes: list[Size]
    chosen: Size | None
    adapter: Path | None
    notes: list[str] = field(repr=False, default_factory=list)
    data_notes: list[str] = field(repr=False, default_factory=list)


def run_shrink(adapter: str, call: ShrinkCall) -> ShrinkResult:
    """Cut an adapter to smaller sizes, score them and write one of them.

    Args:
        adapter: A PEFT adapter: its directory, or its name on the Hub.
        call: The options of `shrink`.

    Returns:
        The result, with all sizes.

    Raises:
        AutorankError: An option is invalid, the adapter cannot be cut, or it does not fit the task.
    """
    from autorank.export import output_dir
    from autorank.shrinking.cutting import ShrinkableAdapter
    from autorank.shrinking.scoring import ScoredAdapter
    from autorank.shrinking.size_choice import choose, including

    to, figure = (None if path is None else expand(path) for path in (call.to, call.figure))
    if figure is not None:
        check_output("--figure", figure, (".png", ".svg", ".pdf"))
    with output_dir.work_dir(to) as scratch:  # fails now if the directory cannot be written
        source = _peft_source(adapter, scratch / "source")
        shrinkable: ShrinkableAdapter
        if call.has_data:
            scored = ScoredAdapter(source, call.task_spec(), call.model_name(), call.training_spec())
            shrinkable, sizes, data_notes = scored, scored.scored(call.sizes), scored.data_notes
        else:
            shrinkable = ShrinkableAdapter(source)
            sizes, data_notes = shrinkable.sizes(), []
        chosen = choose(shrinkable, sizes, call.limit, call.min_score, call.max_score_drop, call.energy)
        notes = []
        if chosen is not None and call.steps and isinstance(shrinkable, ScoredAdapter):
            trained = shrinkable.train(chosen, call.steps, call.learning_rate)
            notes.append(f"{call.steps} steps of training: score {chosen.score:.4f} before, {trained.score:.4f} after")
            chosen = trained if (trained.score or 0.0) >= (chosen.score or 0.0) else chosen  # not if it is NaN
        sizes = including(sizes, chosen)
        if to is not None:
            if chosen is None:
                raise AutorankError("--to needs a size. Give --max-params or --energy, or data to choose by its score.")
            (scratch / "adapter").mkdir()
            shrinkable.write(chosen, scratch / "adapter", call.pad)
            output_dir.move_into_place(scratch / "adapter", to)
            notes.append(f"PEFT adapter of {chosen.adapter_params:,} parameters written to {to}")
        if figure is not None:
            from autorank.display.shrink_display import draw

            draw(sizes, Path(adapter).name, figure)
            notes.append(f"Figure written to {figure}")
    return ShrinkResult(sizes, chosen, to, notes, data_notes)


def _peft_source(adapter: str, scratch: Path) -> str:
    """The PEFT adapter to shrink; one in autorank's own format is converted to `scratch`."""
    from autorank.export.peft_export import check_low_rank, write_peft
    from autorank.modeling import adapter_file, peft_adapter

    path = expand(adapter)
    if path.is_file() and path.name in peft_adapter.FILES:
        raise AutorankError(f"{adapter} is a file of a PEFT adapter. Give its directory, {path.parent}.")
    file = path / adapter_file.FILE if path.is_dir() else path
    if not file.is_file():
        return str(path) if path.exists() else adapter
    check_low_rank(file)
    write_peft(file, scratch)
    return str(scratch)


def check_name(journal: Journal, name: str) -> None:
    """Check that a search, which is to be continued, is in its own directory.

    Raises:
        AutorankError: The directory was renamed or copied.
    """
    if journal.spec.name != name:
        raise AutorankError(
            f"The directory {journal.folder} contains the search {journal.spec.name!r}: it was renamed or copied. To "
            f"continue the search, rename the directory to {journal.spec.name}. What only reads it, such as "
            f"`autorank front {name}`, works as it is."
        )


def run_search(spec: SearchSpec, call: ResumeCall, suggest_commands: bool) -> Outcome:
    """Run a search and display it.

    Args:
        spec: The search.
        call: The options of `resume`, which are also options of `search`.
        suggest_commands: Print suggested commands at the end.

    Returns:
        How the search ended, and its last snapshot.

    Raises:
        AutorankError: An option is invalid, or data, model or resources are not available.
    """
    from autorank import tasks
    from autorank.display.base import Locations
    from autorank.display.factory import choose
    from autorank.tracking.tracking_uri import default_uri
    from autorank.trials.journal.journal import Journal
    from autorank.trials.journal.journal_file import JOURNAL
    from autorank.trials.retention import search_folder

    require_posix()
    tasks.base_model(spec.task, spec.model)  # reports an unknown task before a title with its name is printed
    budget, runs = call.budget(), expand(call.runs)
    folder, uri = search_folder(runs, spec.name), call.tracking_uri
    if uri is None:
        earlier = Journal.open(folder).options if (folder / JOURNAL).exists() else {}
        uri = default_uri(runs, earlier.get("tracking"))
    tracking_option = f" --tracking-uri {shlex.quote(hide(call.tracking_uri))}" if call.tracking_uri else ""
    locations = Locations(folder, runs_option(runs), tracking_option, call.resume_command(spec.name))
    display = choose(spec, locations, budget.seconds, suggest_commands, call.quiet, call.json)
    with display:
        from autorank.searching.search import search  # imports Ray, which prints in notebooks

        outcome = search(spec, folder, budget, uri, display.update, display.warn, display.inform)
    display.end(outcome)
    return outcome
