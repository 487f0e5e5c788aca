"""Output directories are written completely or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from autorank.errors import AutorankError
from autorank.export.output_dir import check_available, complete_dir, keep_on_failure, partial_dir
from autorank.modeling.loading.hub_access import hub_error


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask that lets the group read."""
    previous = os.umask(0o027)
    yield
    os.umask(previous)


def test_an_empty_folder_is_filled_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target may be a mount point or the working directory; leftovers of an interrupted export do not matter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".autorank-cut-off").mkdir()
    inode = tmp_path.stat().st_ino
    with complete_dir(Path(".")) as output_dir:
        assert output_dir.is_relative_to(tmp_path)  # on the same disk
        (output_dir / "a").write_text("a")
    assert tmp_path.stat().st_ino == inode
    assert sorted(file.name for file in tmp_path.iterdir()) == [".autorank-cut-off", "a"]
    with pytest.raises(AutorankError, match="already exists"):
        check_available(tmp_path)


def test_unwritable_target_fails_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(AutorankError, match=r"Cannot write .*file/out: .* Choose another --to"),
        partial_dir(tmp_path / "file" / "out"),
    ):
        raise AssertionError("not reached")


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    """safetensors has an exception of its own for it."""
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(OSError, match="No space left") as caught, complete_dir(tmp_path / "out"):
        raise full
    assert caught.value.errno == errno.ENOSPC and not (tmp_path / "out").exists()
    with pytest.raises(AutorankError, match="saved to"), partial_dir(tmp_path / "out") as work:
        (work / "best.safetensors").touch()
        with keep_on_failure(work / "best.safetensors", tmp_path / "out"):
            raise full
    assert hub_error(full, "model 'x'") is not None and "No space left" in str(hub_error(full, "model 'x'"))


@pytest.mark.usefixtures("umask")
def test_exported_files_follow_the_umask(tmp_path: Path) -> None:
    with complete_dir(tmp_path / "out") as output_dir:
        (output_dir / "sub").mkdir()
        save_file({"a": torch.zeros(1)}, output_dir / "sub" / "a.safetensors")
    modes = {file.name: file.stat().st_mode & 0o777 for file in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert modes == {"out": 0o750, "sub": 0o750, "a.safetensors": 0o640}


def test_the_adapter_is_kept_if_the_export_fails(tmp_path: Path) -> None:
    def fail(error: Exception) -> Path:
        with pytest.raises(Exception) as raised, partial_dir(tmp_path / "out") as work:
            (work / "best.safetensors").write_text("weights")
            with keep_on_failure(work / "best.safetensors", tmp_path / "out"):
                raise error
        (file,) = tmp_path.iterdir()
        assert file.read_text() == "weights" and file.name.startswith("out-")
        messages = [str(raised.value), *getattr(raised.value, "__notes__", ())]
        assert f"saved to {file}; load it with autorank.load_adapter." in messages[-1]
        file.unlink()
        return file

    first_file = fail(AutorankError("There is no room."))
    assert fail(KeyError("a bug")) != first_file
