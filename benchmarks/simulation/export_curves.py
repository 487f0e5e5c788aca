"""Exports searches as a table for `benchmarks.simulation`: settings, curves with slices, and new seeds.

    python -m benchmarks.simulation.export_curves --runs study --task mrpc --out benchmarks/curves/mrpc.jsonl.gz

The table has one line for each evaluated trial of all searches on the task in the directory. A line has the fields of
`benchmarks.simulation.record`, and the search, the state of the trial, its training time in seconds, and `seeds`:
[seed, step, parameters, score] of each point that was trained again. Curves of trials that were stopped early are
shorter.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autorank.training.evaluation import Evaluation
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import runs as searches_in
from autorank.trials.retention import search_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", type=Path, required=True, help=".jsonl or .jsonl.gz")
    arguments = parser.parse_args()
    journals = [Journal.open(search_folder(arguments.runs, name)) for name in searches_in(arguments.runs)]
    lines = [line for journal in journals if journal.spec.task.name == arguments.task for line in rows(journal)]
    write(arguments.out, lines)
    print(f"{len(lines)} trials, {arguments.out.stat().st_size:,} bytes")


def rows(journal: Journal) -> Iterator[dict[str, Any]]:
    """The lines of a search."""
    snapshot = journal.snapshot()
    for trial in snapshot.trials:
        if trial.evaluations:
            yield {
                "search": journal.spec.name,
                "method": trial.method,
                "drawn": trial.sampled,
                "state": trial.state,
                "seconds": round(trial.seconds, 1),
                "evaluation_cost": evaluation_cost(journal),
                "curve": [curve_row(evaluation) for evaluation in trial.evaluations],
                "seeds": [
                    [seed, step, params, round(result["score"], 6)]
                    for (number, step, params, seed), result in snapshot.confirmed.items()
                    if number == trial.number and "score" in result
                ],
            }  # fmt: skip


def curve_row(evaluation: Evaluation) -> list[Any]:
    """Step, score, parameters, and (parameters, score) of each slice."""
    slices = [[slice_.adapter_params, round(slice_.score, 6)] for slice_ in evaluation.slices]
    return [evaluation.step, round(evaluation.score, 6), evaluation.adapter_params, slices]


def evaluation_cost(journal: Journal) -> float:
    """Cost of evaluating one adapter, in training steps; a forward pass is a third of a step."""
    examples = dict(journal.provenance["data"]["examples"])
    del examples["train"]
    return round(sum(examples.values()) / (3 * (journal.spec.training.batch_size or 1)), 3)


def write(file: Path, lines: list[dict[str, Any]]) -> None:
    """Write lines of JSON, compressed if the name ends in .gz; equal lines give equal bytes."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    file.write_bytes(gzip.compress(text, mtime=0) if file.suffix == ".gz" else text)


if __name__ == "__main__":
    main()
