"""benchmarks/study/archive.py packs searches without local paths; docs/results.md has the published searches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import search_folder
from autorank.trials.statistics.certainty import assess
from benchmarks.study import archive, report
from benchmarks.study.results import read
from benchmarks.study.settings import BASELINE, REPEATED_BASELINE, all_methods, search_spec
from tests.trials.trial_factories import evaluation

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted((ROOT / "benchmarks" / "searches").glob("*.tar.xz"))


def test_unpacked_searches_have_the_same_trials_and_intervals_and_no_paths(tmp_path):
    runs, data = tmp_path / "runs", tmp_path / "data"
    for task in ("mrpc", "sst2"):
        spec = search_spec(task, "lora", str(tmp_path / "models" / "base"), data)
        with Journal.create(search_folder(runs, spec.name), spec, (1000.0, 0.0)) as journal:
            journal.begin("lora", {}, {})
            labels = np.arange(20)[:, None] % 2
            correct = Outcomes("accuracy", np.where(np.arange(20)[:, None] < 15, labels, 1 - labels), labels, (20,))
            journal.record(0, evaluation(20, 100, 0.75, predictions=pack([correct])))
            journal.finish(0, "complete")
            journal.confirm(0, 20, 100, 1000, {"score": 0.7, "adapter_params": 100})
    file = tmp_path / "mrpc.tar.xz"
    archive.pack(runs, "mrpc", file)
    archive.unpack(file, tmp_path / "again")
    assert [folder.name for folder in (tmp_path / "again").iterdir()] == ["mrpc-lora"]
    original, unpacked = (Journal.open(search_folder(folder, "mrpc-lora")) for folder in (runs, tmp_path / "again"))
    assert (unpacked.spec.model, unpacked.spec.task.data) == ("base", "mrpc")
    assert unpacked.snapshot().points == original.snapshot().points
    assert unpacked.snapshot().confirmed == original.snapshot().confirmed
    assert assess(unpacked.snapshot()) == assess(original.snapshot()) is not None
    assert str(tmp_path).encode() not in (tmp_path / "again" / "mrpc-lora" / "journal.log").read_bytes()
    bytes_before = file.read_bytes()
    archive.pack(runs, "mrpc", file)
    assert file.read_bytes() == bytes_before


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.name.split(".")[0])
def test_the_page_has_the_tables_of_the_published_searches(file, tmp_path):
    task = file.name.split(".")[0]
    archive.unpack(file, tmp_path)
    searches = [
        result for name in (BASELINE, REPEATED_BASELINE, *all_methods()) if (result := read(tmp_path, task, name))
    ]
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = page.split(f"<!-- study of {task} -->")[1].split(f"<!-- end of {task} -->")[0]
    published = re.sub(r"Not complete yet: .*\n\n", "", section).splitlines()
    assert report.render(task, searches, "command", 8).splitlines()[4:] == published[5:]
