"""Folders of runs, and which adapters are kept."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

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
    search_folder,
    storage_folder,
)
from autorank.trials.snapshot import Snapshot
from tests.trials.trial_factories import sliced, trial


def test_the_folder_of_a_run_is_in_the_folder_of_runs(tmp_path):
    assert search_folder(tmp_path, "mrpc-1.a") == tmp_path / "mrpc-1.a"


@pytest.mark.parametrize("name", ["..", "../other", ".", "a/b", "a/", "/etc", ""])
def test_a_name_that_leads_out_of_the_folder_of_runs_is_refused(tmp_path, name):
    with pytest.raises(AutorankError, match="would not be in"):
        search_folder(tmp_path / "runs", name)


def test_a_search_may_be_moved_to_another_disk_and_linked(tmp_path):
    (tmp_path / "disk" / "mine").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tmp_path / "disk" / "mine")
    folder = search_folder(tmp_path / "runs", "mine")
    assert folder == tmp_path / "runs" / "mine" and folder.is_dir()


def test_an_address_as_the_folder_of_runs_is_refused():
    with pytest.raises(AutorankError, match=r"--runs s3://b/c is not a directory(.|\n)*--storage s3://b/c\."):
        search_folder(Path("s3://b/c"), "mine")


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
    remaining = sorted(path for path in (tmp_path / "trials").rglob("*") if path.is_file())
    expected = [adapter_path(tmp_path, *key) for key in ((0, 20), (2, 10), (2, 20), (3, 10))]
    assert remaining == sorted([*expected, checkpoint_path(tmp_path, 2)])
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


def test_the_folder_of_an_ended_trial_without_adapters_is_deleted(tmp_path):
    """Its only adapter was deleted while it was running; thousands of empty directories would make listings slow."""
    best = trial(0, (50, 0.9))
    trial_folder = adapter_path(tmp_path, 1, 10).parent
    trial_folder.mkdir(parents=True)
    adapter_path(tmp_path, 1, 10).touch()
    for state in ("running", "complete"):
        trials = [best, trial(1, (100, 0.5), state=state)]
        delete_unneeded(tmp_path, Snapshot(trials, front(trials), []))
        assert trial_folder.exists() == (state == "running")


def test_adapters_of_the_front_are_downloaded_and_unneeded_files_deleted_from_object_storage(tmp_path):
    storage = storage_folder("memory://bucket/runs", "search-1")
    trials = [trial(0, (100, 0.7), (100, 0.8)), trial(1, (200, 0.7)), trial(2, (50, 0.6), state="running")]
    for number, step in ((0, 10), (0, 20), (1, 10), (2, 10)):
        adapter_path(storage, number, step).parent.mkdir(parents=True, exist_ok=True)
        adapter_path(storage, number, step).write_bytes(f"{number} {step}".encode())
        checkpoint_path(storage, number).write_bytes(b"")
    snapshot = Snapshot(trials, front(trials), ())
    download_adapters(tmp_path, storage, snapshot)
    delete_unneeded(storage, snapshot)
    assert adapter_path(tmp_path, 0, 20).read_bytes() == b"0 20"
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")) == [
        "trials/0/step-20.safetensors", "trials/2/step-10.safetensors"
    ]  # fmt: skip
    remaining = {str(file).removeprefix(f"{storage}/") for file in storage.glob("trials/*/*")}
    assert remaining == {"trials/0/step-20.safetensors", "trials/2/step-10.safetensors", "trials/2/run.pt"}
    remove(storage)
    assert not storage.exists()


def test_files_written_since_the_last_listing_are_downloaded(tmp_path, monkeypatch):
    """With a client that caches its listings, as s3fs does, while other processes write to the object storage."""
    listings = {}
    ls, exists = MemoryFileSystem.ls, MemoryFileSystem.exists

    def cached_ls(fs, path, detail=True, **_):
        listing = listings.setdefault(fs._strip_protocol(path), ls(fs, path, detail=True))
        return listing if detail else sorted(entry["name"] for entry in listing)

    def cached_exists(fs, path, **_):
        path = fs._strip_protocol(path)
        siblings = listings.get(fs._parent(path))
        return exists(fs, path) if siblings is None else any(entry["name"] == path for entry in siblings)

    monkeypatch.setattr(MemoryFileSystem, "ls", cached_ls)
    monkeypatch.setattr(MemoryFileSystem, "exists", cached_exists)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda fs, path=None: listings.clear())
    storage = storage_folder("memory://bucket/lists", "search-1")
    running = trial(0, (100, 0.7), (90, 0.8), state="running")
    for record in (replace(running, evaluations=running.evaluations[:1]), running):
        MemoryFileSystem().pipe_file(adapter_path(storage, 0, record.step).path, b"%d" % record.step)
        snapshot = Snapshot([record], front([record]), ())
        download_adapters(tmp_path, storage, snapshot)
        assert adapter_path(tmp_path, 0, record.step).read_text() == f"{record.step}"
        delete_unneeded(storage, snapshot)
    listings.clear()
    assert [file.name for file in storage.glob("trials/*/*")] == ["step-20.safetensors"]


def test_unavailable_object_storage_is_retried(tmp_path, monkeypatch, caplog):
    class SlowDown(Exception):
        """Clients of object storage raise other errors than OSError."""

    def unavailable(*args, **options):
        raise SlowDown("reduce your request rate")

    storage = storage_folder("memory://bucket/away", "search-1")
    trials = [trial(0, (100, 0.7), (100, 0.8))]
    for step in (10, 20):
        MemoryFileSystem().pipe_file(adapter_path(storage, 0, step).path, b"%d" % step)
    snapshot = Snapshot(trials, front(trials), ())
    with monkeypatch.context() as patch:
        for name in ("exists", "ls", "rm", "_open"):
            patch.setattr(MemoryFileSystem, name, unavailable)
        download_adapters(tmp_path, storage, snapshot)
        delete_unneeded(storage, snapshot)
        remove(storage)
    message = f"{storage}: SlowDown: reduce your request rate; retrying at the next evaluation"
    assert [record.getMessage() for record in caplog.records] == [message] * 2
    download_adapters(tmp_path, storage, snapshot)
    delete_unneeded(storage, snapshot)
    assert adapter_path(tmp_path, 0, 20).read_bytes() == b"20"
    assert [file.name for file in storage.glob("trials/*/*")] == ["step-20.safetensors"]
    remove(storage)


def test_a_full_disk_is_reported_while_adapters_are_downloaded(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    storage = storage_folder("memory://bucket/full", "search-1")
    trials = [trial(0, (100, 0.7))]
    MemoryFileSystem().pipe_file(adapter_path(storage, 0, 10).path, b"10")
    monkeypatch.setattr("autorank.atomic_io.writing", full)
    with pytest.raises(OSError, match="No space left"):
        download_adapters(tmp_path, storage, Snapshot(trials, front(trials), ()))
    remove(storage)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("bucket/runs", "is not an address"),
        ("nonsense://b", "cannot be used"),
        ("ftp://127.0.0.1:9/x", "cannot be used: .*refused"),
    ],
)
def test_malformed_storage_address_is_refused(address, message):
    with pytest.raises(AutorankError, match=f"--storage '{address}' {message}"):
        storage_folder(address, "search-1")
