"""Writes the catalogue of first settings (`search_spaces/catalogue.yaml`) from the searches of the study.

The study writes the settings of its tasks (`--catalogue`). This program chooses the settings of all tasks in the
catalogue again, from the published curves:

    python -m benchmarks.study.catalogue --catalogue search_spaces/catalogue.yaml --curves benchmarks/curves
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from autorank import tasks
from autorank.searching.space.param_bounds import ParamBounds, run_length
from autorank.trials.front import front, hypervolume
from autorank.trials.record import TrialRecord
from benchmarks.simulation.curves import read_lines, recorded_evaluation
from benchmarks.study.results import Result
from benchmarks.study.settings import REPEATED_BASELINE, search_name

CLOSE = 0.95  # of the best score, and of the largest hypervolume: less than that may be chance (ours)
LEARNED = 2 / 3  # of what the best trial scores above the worst one, which may be that of the majority class (ours)
HEAD = """\
# The best settings of each method in the searches of docs/results.md, for each choice of adapted layers.
# Written by `python -m benchmarks.study --catalogue search_spaces/catalogue.yaml`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogue", type=Path, required=True)
    parser.add_argument("--curves", type=Path, required=True, help="directory with study_TASK.jsonl.gz for each task")
    arguments = parser.parse_args()
    rows = _read(arguments.catalogue)
    for row in rows:
        trials = defaultdict(list)
        for line in read_lines(arguments.curves / f"study_{row['task']}.jsonl.gz"):
            evaluations = tuple(recorded_evaluation(*values) for values in line["curve"])
            trials[line["search"]].append(
                TrialRecord(len(trials[line["search"]]), line["method"], {}, line["state"],
                            evaluations=evaluations, sampled=line["drawn"])
            )  # fmt: skip
        row["best"] = {method: best_settings(trials[search_name(row["task"], method)]) for method in row["best"]}
    _write(arguments.catalogue, rows)


def write(file: Path, searches: list[Result]) -> None:
    """Add a task to the catalogue, or replace what it has of this task and model.

    Args:
        file: The catalogue, which may not exist yet.
        searches: Complete searches of one task.
    """
    new_row = _row([search for search in searches if search.method != REPEATED_BASELINE])
    rows = [row for row in _read(file) if (row["task"], row["model"]) != (new_row["task"], new_row["model"])]
    _write(file, [*rows, new_row])


def _read(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else []
    return rows


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    text = yaml.dump(rows, sort_keys=False, width=120, default_flow_style=None)
    file.write_text(HEAD + text, encoding="utf-8")


def _row(searches: list[Result]) -> dict[str, Any]:
    """The searches of a task."""
    spec = searches[0].spec
    data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
    return {
        "task": spec.task.name,
        "model": Path(spec.model).name if spec.model else "the built-in model",
        "model_params": ParamBounds(spec.task, spec.model).model_params,
        "kind": data.task.kind.name,
        "seen": run_length(spec, data).steps * (spec.training.batch_size or data.task.batch_size),
        "best": {search.spec.methods[0].method: best_settings(search.snapshot.trials) for search in searches},
    }


def best_settings(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return the settings of the best complete trial for each choice of adapted layers, the best of all first.

    Of trials with about the best score, that with the largest hypervolume is the best, because a search is for fronts:
    the highest score may be that of a large adapter without good small slices. The defaults are the best if they are
    among these trials and have about the largest hypervolume, because one of eight trials is better by chance.

    Args:
        trials: Those of a search, by number; the first has the method's defaults.

    Returns:
        The settings that a sampler drew, with floats rounded to three digits.
    """
    evaluated = [trial for trial in trials if trial.evaluations]
    reference = float(max(trial.evaluations[-1].adapter_params for trial in evaluated)), 0.0
    complete = [trial for trial in evaluated if trial.state == "complete"]
    scores = {trial.number: max(evaluation.score for evaluation in trial.evaluations) for trial in evaluated}
    volumes = {trial.number: hypervolume(front([trial]), reference) for trial in complete}
    if 0 in volumes:
        volumes[0] /= CLOSE
    best_score, worst_score = max(scores[trial.number] for trial in complete), min(scores.values())
    least = max(CLOSE * best_score, worst_score + LEARNED * (best_score - worst_score))
    good = [trial for trial in complete if scores[trial.number] >= least]
    best: dict[Any, TrialRecord] = {}
    for trial in sorted(good, key=lambda trial: -volumes[trial.number]):
        best.setdefault(trial.sampled.get("targets"), trial)
    return [{name: _rounded(value) for name, value in trial.sampled.items()} for trial in best.values()]


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
