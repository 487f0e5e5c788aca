"""Where runs lie, and which adapters stay."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.results.archive import Snapshot
from autorank.results.front import front
from autorank.search.files import adapter_path, checkpoint_path, run_folder, sweep
from tests.results.made_trials import trial


def test_a_run_lies_in_the_folder_of_runs(tmp_path):
    assert run_folder(tmp_path, "mrpc-1.a") == tmp_path / "mrpc-1.a"


@pytest.mark.parametrize("name", ["..", "../other", ".", "a/b", "/etc", ""])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(AutorankError, match="leads out of"):
        run_folder(tmp_path / "runs", name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AutorankError, match="leads out of"):
        run_folder(runs, "mine")


def test_what_stays_on_disk(tmp_path):
    trials = [
        trial(0, (100, 0.7), (100, 0.8)),  # its second evaluation is on the front
        trial(1, (200, 0.7), state="failed"),  # dominated
        trial(2, (50, 0.6), state="running"),  # on the front, and another evaluation is on its way
        trial(3, (60, 0.5), control=True),  # on the control's front
    ]
    for number, step in ((0, 10), (0, 20), (1, 10), (1, 20), (2, 10), (2, 20), (3, 10)):
        path = adapter_path(tmp_path, number, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        checkpoint_path(tmp_path, number).touch()
    (tmp_path / "trials" / "0" / ".step-30.safetensors.123").touch()  # left by a killed process
    sweep(tmp_path, Snapshot(trials, front(trials), front(trials, control=True)))
    left = sorted(path for path in (tmp_path / "trials").rglob("*") if path.is_file())
    kept = [adapter_path(tmp_path, *key) for key in ((0, 20), (2, 10), (2, 20), (3, 10))]
    assert left == sorted([*kept, checkpoint_path(tmp_path, 2)])
    assert not (tmp_path / "trials" / "1").exists()
