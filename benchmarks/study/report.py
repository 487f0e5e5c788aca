"""The section of each task on the page of a study, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autorank.trials.statistics.bootstrap import interval
from autorank.trials.statistics.retrained_scores import draws
from benchmarks.study import gains
from benchmarks.study.calibration import calibration
from benchmarks.study.results import Result, common_front
from benchmarks.study.settings import BASELINE


def write(file: Path, task: str, section: str) -> None:
    """Replace the section of a task, which is between two markers of a page.

    Args:
        file: The page.
        task: The task.
        section: Markdown.

    Raises:
        ValueError: The page has no markers for the task.
    """
    page = file.read_text(encoding="utf-8")
    begin, end = f"<!-- study of {task} -->", f"<!-- end of {task} -->"
    if begin not in page or end not in page:
        raise ValueError(f"{file} has no lines {begin} and {end}. Add them where the section belongs.")
    before, after = page.split(begin)[0], page.split(end)[1]
    file.write_text(f"{before}{begin}\n{section}\n{end}{after}", encoding="utf-8")


def render(task: str, searches: Sequence[Result], command: str, trials: int) -> str:
    """Return the section of a task.

    Args:
        task: The task.
        searches: Its searches that have begun, the baseline's first.
        command: The command that makes the section.
        trials: Number of trials of each search.

    Returns:
        Markdown.
    """
    complete = [search for search in searches if search.is_complete(trials)]
    parts = [f"### {task}", f"`{command}`", _setting(searches[0])]
    if waiting := [search.method for search in searches if search not in complete]:
        parts.append(f"Not complete yet: {', '.join(waiting)}.")
    if complete and complete[0].method == BASELINE:
        parts += [methods_table(complete), "The front of all methods together:", front_table(complete)]
    if complete:
        parts += ["How often intervals held:", calibration_table(complete)]
    return "\n\n".join(parts)


def methods_table(results: Sequence[Result]) -> str:
    """What each method adds to the baseline, which is the first, and what it costs."""
    baseline = results[0]
    rows = []
    for result in results:
        best = next(entry for entry in result.front if entry.point.key == result.best.key)
        differences = ["", "", ""]
        if result is not baseline:
            added_hypervolume = gains.added_hypervolume(result.front, baseline.front, baseline.max_params)
            mean = gains.mean_gain(result.front, baseline.front)
            better = "" if mean.better is None else f"{mean.better:.2f}"
            differences = [_difference(added_hypervolume), _difference(mean), better]
        expected = "" if result.expected_drop is None else f" ({result.expected_drop:.4f})"
        rows.append([
            f"`{result.method}`", *differences, f"{best.sample.mean:.4f}", f"{result.drop:+.4f}{expected}",
            str(result.ended), f"{result.steps:,}", f"{result.seconds:,.0f} s",
        ])  # fmt: skip
    return _table(
        ["method", "added", "mean gain", "gain > 0", "best, new seeds", "drop of the best", "trials", "steps", "time"],
        rows,
    )


def front_table(results: Sequence[Result]) -> str:
    """The front of all methods together, with intervals."""
    baseline = results[0].front
    pairs = common_front(list(results))
    resampled = draws([entry.sample for _, entry in pairs])
    rows = []
    for index, (result, entry) in enumerate(pairs):
        scores, point = entry.sample.scores, entry.point
        spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
        band = "" if resampled is None else _interval(resampled[:, index])
        gain = None if result is results[0] else gains.gain(entry, baseline)
        rows.append([
            f"{point.adapter_params:,}", f"`{result.method}`", f"{point.score:.4f}",
            f"{entry.sample.mean:.4f}{spread} ({len(scores)})", band, "" if gain is None else _difference(gain),
        ])  # fmt: skip
    return _table(["parameters", "method", "search", "new seeds (number)", "90%", "gain over plain LoRA"], rows)


def calibration_table(results: Sequence[Result]) -> str:
    """How often intervals held."""
    counts = calibration(results)
    row = [
        _share(counts.in_search, counts.points), _share(counts.predicted, counts.left_out),
        "" if counts.expected_drop is None else f"{counts.expected_drop:.4f}", f"{counts.drop:+.4f}",
    ]  # fmt: skip
    return _table(["interval of the search", "next seed", "expected drop", "drop"], [row])


def _interval(scores: np.ndarray) -> str:
    low, high = interval(scores)
    return f"{low:.4f} to {min(high, 1.0):.4f}"


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.0%})" if total else ""


def _setting(result: Result) -> str:
    spec = result.spec
    training = spec.training
    max_examples = spec.task.max_train_examples
    limit = "" if max_examples is None else f" of a random {max_examples:,}"
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
