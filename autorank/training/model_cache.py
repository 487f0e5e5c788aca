"""Keeps the base model and the tokenized data between runs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from autorank import atomic_io, cache, tasks
from autorank.errors import AutorankError
from autorank.modeling import base_model, devices
from autorank.modeling.heads import Head
from autorank.spec import TaskSpec
from autorank.tasks.definition import TaskData
from autorank.training import gpu
from autorank.training.eval_batch_size import EvalBatchSize

SAMPLE = 64 * 2**10  # bytes read at a file's start, middle and end for its digest


class ModelCache:
    """Loads a base model and a task's data once for several successive runs.

    Only the latest of each is kept, because the runs of a search share them.

    Args:
        device: Device of the base model; by default `devices.default_device()`.
        probes: Directory in which methods store results for other runs.

    Attributes:
        eval_batch_size: Batch size with which the base model can be evaluated.
    """

    def __init__(self, device: torch.device | str | None = None, probes: Path | None = None) -> None:
        self.probes = probes or cache.folder() / "probes"
        self.device = torch.device(device or devices.default_device())
        self.eval_batch_size = EvalBatchSize()
        self._moved: dict[str, str] = {}  # name or directory of a model -> its local copy
        self._data: tuple[tuple[TaskSpec, str], TaskData] | None = None
        self._base: tuple[tuple[str, Head, int, torch.dtype, str | None], base_model.BaseModel] | None = None

    def data(self, task: TaskSpec, model: str) -> TaskData:
        """Return the task's data, tokenized for the model."""
        if self._data is None or self._data[0] != (task, model):
            self._data = (task, model), tasks.load(task, model)
        return self._data[1]

    def store(self, task: TaskSpec, model: str, data: TaskData, files: Mapping[str, Any]) -> None:
        """Store data that were tokenized elsewhere, and a base model from its files.

        Args:
            task: The task.
            model: Name or directory of the base model.
            data: The tokenized data.
            files: File name -> content (bytes or an array of them), of a model that is a directory on another machine;
                empty otherwise. They are written once on each node, to a directory named by their content.
        """
        self._data = (task, model), data
        if files and not Path(model).is_dir():
            digest = hashlib.sha256()
            for name, content in sorted(files.items()):
                _add(digest, name, len(content), functools.partial(_slice, content))
            folder = cache.folder() / "models" / digest.hexdigest()[:32]
            for name, content in files.items():
                if not (folder / name).exists():  # another process of this node may have written it
                    with atomic_io.writing(folder / name) as partial:
                        partial.write_bytes(content)
            self._moved = {model: str(folder)}

    def fingerprint(self, model: str) -> str:
        """Return an identifier of a model's content: its Hub name, or a digest of a directory's files.

        Args:
            model: Hub name, or directory on the machine that started the search, of which a local copy is read if there
                is one.

        Returns:
            The identifier.
        """
        folder = Path(self._moved.get(model, model))
        return _content_digest(folder) if folder.is_dir() else model

    def base(
        self, model: str, head: Head, outputs: int, dtype: torch.dtype, quantize: str | None = None
    ) -> base_model.BaseModel:
        """Return the base model in the state of the last run; call its `reset` before use.

        Args:
            model: Name or directory.
            head: Kind of the head.
            outputs: Number of outputs of the head.
            dtype: Data type of the frozen weights.
            quantize: Quantization, or None.

        Returns:
            The base model, on the device.
        """
        key = model, head, outputs, dtype, quantize
        if self._base is None or self._base[0] != key:
            self._base = None  # free the old one first
            self.eval_batch_size = EvalBatchSize()
            loaded = base_model.load(self._moved.get(model, model), outputs, dtype, str(self.device), head, quantize)
            base_model.widen_norms(loaded.model)
            self._base = key, loaded
        return self._base[1]


def _content_digest(folder: Path) -> str:
    """A digest of the names, sizes and samples (at most 192 KiB per file) of a model's files.

    Paths and times are left out, so that copies have equal digests, and other weights at the same path do not.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        with file.open("rb") as content:

            def sample(start: int, content: Any = content) -> bytes:
                content.seek(start)
                data: bytes = content.read(SAMPLE)
                return data

            _add(digest, file.name, file.stat().st_size, sample)
    return digest.hexdigest()


def _slice(content: Any, start: int) -> Any:
    return content[start : start + SAMPLE]


def _add(digest: Any, name: str, size: int, sample: Callable[[int], Any]) -> None:
    """Add a file's name, its size and samples of its content; `sample` returns what begins at a position."""
    digest.update(repr((name, size)).encode())
    for start in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
        digest.update(sample(start))


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of frozen weights and autocast


def resolve_precision(precision: str, device: torch.device) -> str:
    """Replace `auto`: bf16 on a GPU that computes in it, fp16 on an older GPU, fp32 on a CPU.

    Raises:
        AutorankError: fp16 without a CUDA GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise AutorankError("Precision 'fp16' needs a CUDA GPU; elsewhere use 'fp32' or 'bf16'.")
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if gpu.native_bf16(device) else "fp16"
