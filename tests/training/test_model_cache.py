"""Names of a base model's content, by which what was computed with it is found again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from autorank.training.model_cache import ModelCache
from tests import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(tiny.model("bert", tmp_path / "bert"))


def test_copies_have_one_name_whatever_their_place_and_times(folder: Path, tmp_path: Path) -> None:
    cache, copy = ModelCache(), tmp_path / "copy"
    shutil.copytree(folder, copy)
    os.utime(copy / "config.json", (1, 1))
    assert cache.fingerprint(str(folder)) == cache.fingerprint(str(copy))
    assert cache.fingerprint("owner/name") == "owner/name"


def test_other_weights_at_the_same_place_have_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorank.training.model_cache.SAMPLE", 1024)
    cache, weights = ModelCache(), folder / "model.safetensors"
    before = cache.fingerprint(str(folder))
    content, times = bytearray(weights.read_bytes()), weights.stat()
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and rsync leave them
    assert cache.fingerprint(str(folder)) != before


def test_on_a_node_that_was_sent_the_model_its_copy_is_read(folder: Path) -> None:
    sent, there = ModelCache(), str(folder / "absent")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    sent.keep(None, there, None, files)  # type: ignore[arg-type]
    assert sent.fingerprint(there) == ModelCache().fingerprint(str(folder))
