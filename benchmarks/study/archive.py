"""Packs the searches of a task into one file, from which its tables are made again without training.

    python -m benchmarks.study.archive --task qqp --runs study --file benchmarks/searches/qqp.tar.xz
    python -m benchmarks.study.archive --unpack --runs study --file benchmarks/searches/qqp.tar.xz
    python -m benchmarks.study --tasks qqp --trials 8 --minutes 0 --runs study

The file has the journals and the predictions of complete searches. Of the paths of data and base model only the last
part is kept.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from autorank.searching.confirm import pending
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.journal.journal_file import runs as searches_in
from autorank.trials.record import ended_trials
from autorank.trials.retention import search_folder
from autorank.trials.statistics.predictions import FOLDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="directory of the searches")
    parser.add_argument("--file", type=Path, required=True)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--task", help="pack the searches on this task")
    action.add_argument("--unpack", action="store_true")
    arguments = parser.parse_args()
    if arguments.unpack:
        unpack(arguments.file, arguments.runs)
    else:
        pack(arguments.runs, arguments.task, arguments.file)
    print(f"{arguments.file}: {arguments.file.stat().st_size:,} bytes")


def pack(runs: Path, task: str, file: Path) -> None:
    """Write the complete searches of a task; equal searches give equal bytes.

    Args:
        runs: Directory of the searches.
        task: The task.
        file: The archive.
    """
    with tarfile.open(file, "w:xz") as archive:
        for name in sorted(searches_in(runs)):
            folder = search_folder(runs, name)
            if (journal := Journal.open(folder)).spec.task.name == task and _is_complete(journal):
                for member, content in _contents(folder):
                    information = tarfile.TarInfo(f"{name}/{member}")
                    information.size = len(content)
                    archive.addfile(information, io.BytesIO(content))


def unpack(file: Path, runs: Path) -> None:
    """Write the searches of an archive into a directory.

    Args:
        file: What `pack` wrote.
        runs: Directory of the searches.
    """
    with tarfile.open(file) as archive:
        archive.extractall(runs, filter="data")


def _is_complete(journal: Journal) -> bool:
    """Whether all trials that the search was to have have ended, and no new seeds are missing."""
    trials, seeds = journal.options.get("trials", 0), journal.options.get("confirm", 0)
    return len(ended_trials(journal.trials())) >= trials and not pending(journal, seeds)


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    spec = Journal.open(folder).spec
    journal = (folder / JOURNAL).read_text(encoding="utf-8")
    for path in filter(None, (spec.task.data, spec.model)):
        journal = journal.replace(json.dumps(path), json.dumps(Path(path).name))
    yield JOURNAL, journal.encode()
    for predictions in sorted((folder / FOLDER).glob("*.npz")):
        yield f"{FOLDER}/{predictions.name}", predictions.read_bytes()


if __name__ == "__main__":
    main()
