"""Where runs lie, and which adapters stay."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from autorank.errors import AutorankError
from autorank.trials.front import front
from autorank.trials.retention import (
    adapter_path,
    checkpoint_path,
    delete_unneeded,
    download_adapters,
    remove,
    run_folder,
    storage_folder,
)
from autorank.trials.snapshot import Snapshot
from tests.trials.made_trials import sliced, trial


def test_a_run_lies_in_the_folder_of_runs(tmp_path):
    assert run_folder(tmp_path, "mrpc-1.a") == tmp_path / "mrpc-1.a"


@pytest.mark.parametrize("name", ["..", "../other", ".", "a/b", "/etc", ""])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(AutorankError, match="would not be in"):
        run_folder(tmp_path / "runs", name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AutorankError, match="would not be in"):
        run_folder(runs, "mine")


def test_only_adapters_of_front_points_stay_on_disk(tmp_path):
    trials = [
        trial(0, (100, 0.7), (100, 0.8)),  # its second evaluation is on the front
        trial(1, (200, 0.7), state="failed"),  # dominated
        trial(2, (50, 0.6), state="running"),  # on the front, and another evaluation is on its way
        trial(3, (60, 0.5), baseline=True),  # on the baseline's front
    ]
    for number, step in ((0, 10), (0, 20), (1, 10), (1, 20), (2, 10), (2, 20), (3, 10)):
        path = adapter_path(tmp_path, number, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        checkpoint_path(tmp_path, number).touch()
    (tmp_path / "trials" / "0" / ".step-30.safetensors.123").touch()  # left by a killed process
    delete_unneeded(tmp_path, Snapshot(trials, front(trials), front(trials, baseline=True)))
    left = sorted(path for path in (tmp_path / "trials").rglob("*") if path.is_file())
    kept = [adapter_path(tmp_path, *key) for key in ((0, 20), (2, 10), (2, 20), (3, 10))]
    assert left == sorted([*kept, checkpoint_path(tmp_path, 2)])
    assert not (tmp_path / "trials" / "1").exists()


def test_an_adapter_stays_while_a_slice_of_it_is_on_a_front(tmp_path):
    trials = [trial(0, sliced(10, 1000, 0.5, (100, 0.6), (50, 0.55))), trial(1, (2000, 0.9)), trial(2, (10, 0.95))]
    files = [adapter_path(tmp_path, number, 10) for number in range(3)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    for count in (2, 3):
        delete_unneeded(tmp_path, Snapshot(trials, front(trials[:count]), []))
        assert [file.exists() for file in files[:2]] == [count == 2] * 2


def test_a_trial_that_ends_with_nothing_left_leaves_no_folder(tmp_path):
    """Its only adapter went while it was running; thousands of empty folders would make each look longer."""
    best = trial(0, (50, 0.9))
    home = adapter_path(tmp_path, 1, 10).parent
    home.mkdir(parents=True)
    adapter_path(tmp_path, 1, 10).touch()
    for state in ("running", "complete"):
        trials = [best, trial(1, (100, 0.5), state=state)]
        delete_unneeded(tmp_path, Snapshot(trials, front(trials), []))
        assert home.exists() == (state == "running")


def test_object_storage_is_swept_and_the_front_collected(tmp_path):
    place = storage_folder("memory://bucket/runs", "search-1")
    trials = [trial(0, (100, 0.7), (100, 0.8)), trial(1, (200, 0.7)), trial(2, (50, 0.6), state="running")]
    for number, step in ((0, 10), (0, 20), (1, 10), (2, 10)):
        adapter_path(place, number, step).parent.mkdir(parents=True, exist_ok=True)
        adapter_path(place, number, step).write_bytes(f"{number} {step}".encode())
        checkpoint_path(place, number).write_bytes(b"")
    seen = Snapshot(trials, front(trials), ())
    download_adapters(tmp_path, place, seen)
    delete_unneeded(place, seen)
    assert adapter_path(tmp_path, 0, 20).read_bytes() == b"0 20"
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")) == [
        "trials/0/step-20.safetensors", "trials/2/step-10.safetensors"
    ]  # fmt: skip
    left = {str(file).removeprefix(f"{place}/") for file in place.glob("trials/*/*")}
    assert left == {"trials/0/step-20.safetensors", "trials/2/step-10.safetensors", "trials/2/run.pt"}
    remove(place)
    assert not place.exists()


def test_files_written_since_the_last_listing_are_collected(tmp_path, monkeypatch):
    """From object storage that remembers its listings, as s3fs does, while others write there."""
    listings = {}
    ls, exists = MemoryFileSystem.ls, MemoryFileSystem.exists

    def remembered(fs, path, detail=True, **_):
        found = listings.setdefault(fs._strip_protocol(path), ls(fs, path, detail=True))
        return found if detail else sorted(each["name"] for each in found)

    def listed(fs, path, **_):
        path = fs._strip_protocol(path)
        beside = listings.get(fs._parent(path))
        return exists(fs, path) if beside is None else any(each["name"] == path for each in beside)

    monkeypatch.setattr(MemoryFileSystem, "ls", remembered)
    monkeypatch.setattr(MemoryFileSystem, "exists", listed)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda fs, path=None: listings.clear())
    place = storage_folder("memory://bucket/lists", "search-1")
    running = trial(0, (100, 0.7), (90, 0.8), state="running")
    for seen in (replace(running, evaluations=running.evaluations[:1]), running):
        MemoryFileSystem().pipe_file(adapter_path(place, 0, seen.step).path, b"%d" % seen.step)
        snapshot = Snapshot([seen], front([seen]), ())
        download_adapters(tmp_path, place, snapshot)
        assert adapter_path(tmp_path, 0, seen.step).read_text() == f"{seen.step}"
        delete_unneeded(place, snapshot)
    listings.clear()
    assert [file.name for file in place.glob("trials/*/*")] == ["step-20.safetensors"]


def test_object_storage_that_is_away_is_tried_again(tmp_path, monkeypatch, caplog):
    class SlowDown(Exception):
        """Clients of object storage raise others than OSError."""

    def away(*args, **options):
        raise SlowDown("reduce your request rate")

    place = storage_folder("memory://bucket/away", "search-1")
    trials = [trial(0, (100, 0.7), (100, 0.8))]
    for step in (10, 20):
        MemoryFileSystem().pipe_file(adapter_path(place, 0, step).path, b"%d" % step)
    seen = Snapshot(trials, front(trials), ())
    with monkeypatch.context() as patch:
        for name in ("exists", "ls", "rm", "_open"):
            patch.setattr(MemoryFileSystem, name, away)
        download_adapters(tmp_path, place, seen)
        delete_unneeded(place, seen)
        remove(place)
    said = f"{place}: SlowDown: reduce your request rate; retrying at the next evaluation"
    assert [record.getMessage() for record in caplog.records] == [said] * 2
    download_adapters(tmp_path, place, seen)
    delete_unneeded(place, seen)
    assert adapter_path(tmp_path, 0, 20).read_bytes() == b"20"
    assert [file.name for file in place.glob("trials/*/*")] == ["step-20.safetensors"]
    remove(place)


def test_a_full_disk_is_reported_while_the_front_is_collected(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    place = storage_folder("memory://bucket/full", "search-1")
    trials = [trial(0, (100, 0.7))]
    MemoryFileSystem().pipe_file(adapter_path(place, 0, 10).path, b"10")
    monkeypatch.setattr("autorank.atomic_io.writing", full)
    with pytest.raises(OSError, match="No space left"):
        download_adapters(tmp_path, place, Snapshot(trials, front(trials), ()))
    remove(place)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("bucket/runs", "is not an address"),
        ("nonsense://b", "cannot be used"),
        ("ftp://127.0.0.1:9/x", "cannot be used: .*refused"),
    ],
)
def test_malformed_storage_address_is_refused(address, said):
    with pytest.raises(AutorankError, match=f"--storage '{address}' {said}"):
        storage_folder(address, "search-1")
