"""Fingerprints of a base model's content, by which cached results are found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from autorank.training.model_cache import ModelCache
from tests import tiny_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(tiny_models.model("bert", tmp_path / "bert"))


def test_copies_have_one_fingerprint_whatever_their_path_and_times(folder: Path, tmp_path: Path) -> None:
    cache, copy = ModelCache(), tmp_path / "copy"
    shutil.copytree(folder, copy)
    os.utime(copy / "config.json", (1, 1))
    assert cache.fingerprint(str(folder)) == cache.fingerprint(str(copy))
    assert cache.fingerprint("owner/name") == "owner/name"


def test_other_weights_at_the_same_path_have_another_fingerprint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorank.training.model_cache.SAMPLE", 1024)
    cache, weights = ModelCache(), folder / "model.safetensors"
    before = cache.fingerprint(str(folder))
    content, times = bytearray(weights.read_bytes()), weights.stat()
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and rsync leave them
    assert cache.fingerprint(str(folder)) != before


def test_a_node_reads_the_copy_of_the_model_that_it_was_sent(folder: Path, own_cache: Path) -> None:
    """The copy is written once, however many processes the node has; another model gets another copy."""
    model_path = str(folder / "absent")
    files = {file.name: np.fromfile(file, np.uint8) for file in folder.iterdir()}
    caches = [ModelCache(), ModelCache()]
    times = []
    for cache in caches:
        cache.store(None, model_path, None, files)  # type: ignore[arg-type]
        assert cache.fingerprint(model_path) == ModelCache().fingerprint(str(folder))
        times.append({path: path.stat().st_mtime_ns for path in own_cache.rglob("*.safetensors")})
    assert times[0] == times[1] and len(times[0]) == 1
    changed = ModelCache()
    changed.store(None, model_path, None, files | {"config.json": b"{}"})  # type: ignore[arg-type]
    assert len(list(own_cache.rglob("*.safetensors"))) == 2
    assert changed.fingerprint(model_path) != caches[0].fingerprint(model_path)
