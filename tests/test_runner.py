"""Trainings that write their adapter to a directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

import autorank
from autorank import api
from autorank.errors import AutorankError
from autorank.training.run import TrainingRun
from tests import tiny_models

SMALL_TRAINING: dict[str, Any] = {
    "task": "demo", "method": "lora", "set": {"rank": 2}, "steps": 1, "max_train_examples": 8, "max_eval_examples": 8,
    "precision": "fp32", "quiet": True,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, own_cache: Path) -> str:
    return tiny_models.model("bert", tmp_path / "model")


def test_into_an_empty_folder(model: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    api.train(model=model, to=tmp_path / "out", **SMALL_TRAINING)
    assert {"README.md", "adapter_config.json"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_unwritable_directory_fails_before_training(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutorankError, match=r"Cannot write .*out"):
        api.train(model=model, to=tmp_path / "file" / "out", **SMALL_TRAINING | {"steps": 10**9})


def test_the_adapter_is_saved_if_the_export_fails(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk_full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("autorank.export.export_point.write_peft", raise_disk_full)
    with pytest.raises(AutorankError, match=r"No space left on device\. The best adapter so far was saved to "):
        api.train(model=model, to=tmp_path / "out", **SMALL_TRAINING)
    assert not (tmp_path / "out").exists()
    (adapter_file,) = tmp_path.glob("out-*.safetensors")
    autorank.load_adapter(AutoModelForSequenceClassification.from_pretrained(model, num_labels=2), adapter_file)


@pytest.mark.parametrize("ending", [AutorankError("Training diverged."), KeyboardInterrupt()])
def test_the_best_adapter_is_saved_if_the_training_fails(
    ending: BaseException, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(console: object, training: TrainingRun, best: Path, warn: object) -> Any:
        next(training)
        training.save_adapter(best)
        raise ending

    monkeypatch.setattr("autorank.display.train_display.follow", follow)
    with pytest.raises(type(ending)) as error:
        api.train(model=model, to=tmp_path / "out", **SMALL_TRAINING)
    message = "".join([str(error.value), *getattr(error.value, "__notes__", [])])
    (adapter_file,) = tmp_path.glob("out-*.safetensors")
    assert f"The best adapter so far was saved to {adapter_file}" in message
    autorank.load_adapter(AutoModelForSequenceClassification.from_pretrained(model, num_labels=2), adapter_file)


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorank.errors.sys.platform", "win32")
    for function in (api.train, api.search):
        with pytest.raises(AutorankError, match="autorank runs on Linux and macOS"):
            function(method="lora", task="demo")


def test_runs_without_an_evaluation_leave_no_files(model: str, tmp_path: Path) -> None:
    diverging = SMALL_TRAINING | {"set": {"learning_rate": 1e30}, "steps": 50, "eval_every": 50}
    with pytest.raises(AutorankError, match=r"diverged|finite") as error:
        api.train(model=model, to=tmp_path / "out", **diverging)
    assert "kept" not in str(error.value) and {file.name for file in tmp_path.iterdir()} == {"cache", "model"}
