"""The tables of a study, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autorank.trials.statistics.bootstrap import interval
from autorank.trials.statistics.confirmation_stats import draws
from benchmarks.study import gains
from benchmarks.study.calibration import calibration
from benchmarks.study.results import Result, common_front
from benchmarks.study.settings import BASELINE

BEGIN, END = "<!-- study -->", "<!-- end of study -->"
EXPLANATION = """\
Each method has a search of its own on each task, with the same number of trials. A search selects on held-out training
examples (15 %). The points of its front are then trained again with new seeds (three on average) and scored on the
validation split, which no search has used. *New seeds* are these scores, with their standard deviation. Intervals
contain 90 %; they include seeds and validation examples. The front of a search is a choice of a point for each number
of parameters, made by the scores of the search and scored with new seeds, so a difference is not positive by chance
alone, and may be negative.

- *added*: hypervolume of this front and plain LoRA's together, above that of plain LoRA's.
- *mean gain*: score above plain LoRA's at equal parameters, averaged over the logarithm of the parameters.
- *lora again* is plain LoRA searched again with another seed: what a second search adds without another method. The
  intervals do not include the luck of a search, so only what is clearly more than this row is due to a method.
- *loss of the best*: by how much the best score of the search fell with new seeds on the validation split, which may be
  harder than held-out training examples (those of SST-2 are phrases, not sentences); in parentheses, the loss that the
  search expected from its predictions, for new examples of the same kind. It does not know other seeds: a setting that
  learns with one seed and fails with others loses most of its score.
- *steps, time*: of all trials, without new seeds. Other work on the machine makes times longer."""

INTERVALS = """\
### How often the intervals held

- *search*: points of all fronts whose mean over new seeds, on the validation split, is in the 90 % interval of the
  search. It covers other examples of the same kind, but neither other seeds nor another split, so the share is below
  90 %.
- *seeds*: points with three or more new seeds whose last seed is in the 90 % interval that is predicted from the
  others, with the variances that `--confirm-seeds` uses (`autorank/trials/statistics/seed_variance.py`).
- *expected loss, loss*: of the best score, as above, mean over the searches."""


def write(file: Path, section: str) -> None:
    """Replace the part of a page between the markers of the study.

    Args:
        file: The page.
        section: Markdown.

    Raises:
        ValueError: The page has no markers.
    """
    page = file.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise ValueError(f"{file} has no lines {BEGIN} and {END}. Add them where the study belongs.")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n{section}\n{END}{after}", encoding="utf-8")


def render(results: dict[str, list[Result]], command: str, trials: int) -> str:
    """Return the section of a study.

    Args:
        results: Task -> its searches that have begun, the baseline's first.
        command: The command that makes the study and this section.
        trials: Number of trials of each search.

    Returns:
        Markdown.
    """
    parts = [f"`{command}`", EXPLANATION]
    for task, searches in results.items():
        complete = [search for search in searches if search.is_complete(trials)]
        parts.append(f"### {task}\n\n{_setting(searches[0])}")
        if waiting := [search.method for search in searches if search not in complete]:
            parts.append(f"Not complete yet: {', '.join(waiting)}.")
        if complete and complete[0].method == BASELINE:
            parts += [methods_table(complete), "The front of all methods together:", front_table(complete)]
    finished = {task: [s for s in searches if s.is_complete(trials)] for task, searches in results.items()}
    if any(finished.values()):
        parts += [INTERVALS, calibration_table({task: searches for task, searches in finished.items() if searches})]
    return "\n\n".join(parts)


def methods_table(results: Sequence[Result]) -> str:
    """What each method adds to the baseline, which is the first, and what it costs."""
    baseline = results[0]
    rows = []
    for result in results:
        best = next(entry for entry in result.front if entry.point.key == result.best.key)
        differences = ["", "", ""]
        if result is not baseline:
            added = gains.added(result.front, baseline.front, baseline.most)
            mean = gains.mean_gain(result.front, baseline.front)
            better = "" if mean.better is None else f"{mean.better:.2f}"
            differences = [_difference(added), _difference(mean), better]
        expected = "" if result.expected_loss is None else f" ({result.expected_loss:.4f})"
        rows.append([
            f"`{result.method}`", *differences, f"{best.sample.mean:.4f}", f"{result.loss:+.4f}{expected}",
            str(result.ended), f"{result.steps:,}", f"{result.seconds:,.0f} s",
        ])  # fmt: skip
    return _table(
        ["method", "added", "mean gain", "gain > 0", "best, new seeds", "loss of the best", "trials", "steps", "time"],
        rows,
    )


def front_table(results: Sequence[Result]) -> str:
    """The front of all methods together, with intervals."""
    baseline = results[0].front
    pairs = common_front(list(results))
    drawn = draws([entry.sample for _, entry in pairs])
    rows = []
    for index, (result, entry) in enumerate(pairs):
        scores, point = entry.sample.scores, entry.point
        spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
        band = "" if drawn is None else _interval(drawn[:, index])
        gain = None if result is results[0] else gains.gain(entry, baseline)
        rows.append([
            f"{point.adapter_params:,}", f"`{result.method}`", f"{point.score:.4f}",
            f"{entry.sample.mean:.4f}{spread} ({len(scores)})", band, "" if gain is None else _difference(gain),
        ])  # fmt: skip
    return _table(["parameters", "method", "search", "new seeds (number)", "90 %", "gain over plain LoRA"], rows)


def calibration_table(results: dict[str, list[Result]]) -> str:
    """How often intervals held, for each task and for all."""
    rows = []
    for task, searches in [*results.items(), ("all", [search for group in results.values() for search in group])]:
        counts = calibration(searches)
        rows.append([
            task, str(len(searches)),
            _share(counts.in_search, counts.points), _share(counts.predicted, counts.left_out),
            "" if counts.expected is None else f"{counts.expected:.4f}", f"{counts.loss:+.4f}",
        ])  # fmt: skip
    return _table(["task", "searches", "search", "seeds", "expected loss", "loss"], rows)


def _interval(scores: np.ndarray) -> str:
    low, high = interval(scores)
    return f"{low:.4f} to {min(high, 1.0):.4f}"


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.0%})" if total else ""


def _setting(result: Result) -> str:
    spec = result.spec
    training = spec.training
    most = spec.task.max_train_examples
    limit = "" if most is None else f" of a random {most:,}"
    return (
        f"{training.steps} steps of {training.batch_size} examples{limit}, evaluated every {training.eval_every} "
        f"steps, precision {training.precision}. Base model: `{Path(spec.model).name if spec.model else 'built in'}`."
    )


def _difference(value: gains.Difference) -> str:
    band = "" if value.low is None else f" ({value.low:+.4f} to {value.high:+.4f})"
    return f"{value.value:+.4f}{band}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in [columns, *rows]]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])
