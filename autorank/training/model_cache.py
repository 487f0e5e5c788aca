"""What stays warm between runs: the base model and the tokenised data."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from autorank import cache, tasks
from autorank.errors import AutorankError
from autorank.modeling import base_model
from autorank.modeling.heads import Head
from autorank.spec import TaskSpec
from autorank.tasks.definition import TaskData
from autorank.training.eval_batch_size import EvalBatchSize

SAMPLE = 64 * 2**10  # bytes that are read of a file at its start, middle and end to tell it from others


class ModelCache:
    """Loads a base model and a task's data once and lends them to one run after another.

    One of each is kept: the runs of a search all ask for the same. `probes` is the folder where methods keep what other
    runs can reuse, `eval_batch_size` what is known of how many examples the base model can evaluate at once.
    """

    def __init__(self, device: torch.device | str | None = None, probes: Path | None = None) -> None:
        self.probes = probes or cache.folder() / "probes"
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.eval_batch_size = EvalBatchSize()
        self._moved: dict[str, str] = {}  # models that lie elsewhere here
        self._data: tuple[tuple[TaskSpec, str], TaskData] | None = None
        self._base: tuple[tuple[str, Head, int, torch.dtype, str | None], base_model.BaseModel] | None = None

    def data(self, task: TaskSpec, model: str) -> TaskData:
        """The task, tokenised for the model."""
        if self._data is None or self._data[0] != (task, model):
            self._data = (task, model), tasks.load(task, model)
        return self._data[1]

    def keep(self, task: TaskSpec, model: str, data: TaskData, files: Mapping[str, bytes]) -> None:
        """Lend these data for the task, which were tokenised elsewhere, and the base model of these files.

        files: name -> content, of a model that is a folder elsewhere; none if it can be had by its name.
        """
        self._data = (task, model), data
        if files and not Path(model).is_dir():
            self._folder = tempfile.TemporaryDirectory()
            for name, content in files.items():
                (Path(self._folder.name) / name).write_bytes(content)
            self._moved = {model: self._folder.name}

    def fingerprint(self, model: str) -> str:
        """Return a name of a model's content: the Hub name, or for a folder a digest of its files.

        Args:
            model: Hub name, or the folder where the search was started; its copy is read where this node has one.
        """
        folder = Path(self._moved.get(model, model))
        return _content_digest(folder) if folder.is_dir() else model

    def base(
        self, model: str, head: Head, outputs: int, dtype: torch.dtype, quantize: str | None = None
    ) -> base_model.BaseModel:
        """The base model with this head, as the last run left it: `reset` it before use."""
        key = model, head, outputs, dtype, quantize
        if self._base is None or self._base[0] != key:
            self._base = None  # free the old one first
            self.eval_batch_size = EvalBatchSize()
            self._base = (
                key,
                base_model.load(self._moved.get(model, model), outputs, dtype, str(self.device), head, quantize),
            )
        return self._base[1]


def _content_digest(folder: Path) -> str:
    """Digest of a model's files: their names, their sizes, and samples of their content, at most 192 KiB a file.

    Paths and times do not count, so that equal copies share a digest, and other weights at the same path do not.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        size = file.stat().st_size
        digest.update(repr((file.name, size)).encode())
        with file.open("rb") as content:
            for start in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                content.seek(start)
                digest.update(content.read(SAMPLE))
    return digest.hexdigest()


def resolve_precision(asked: str, device: torch.device) -> str:
    """`auto` is bf16 on a GPU that has it, else fp32.

    Raises:
        AutorankError: fp16 on a CPU.
    """
    if asked == "fp16" and device.type == "cpu":
        raise AutorankError("Precision 'fp16' needs a GPU; on a CPU use 'fp32' or 'bf16'.")
    if asked != "auto":
        return asked
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
