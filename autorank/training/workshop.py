"""What stays warm between runs: the base model and the tokenised data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from autorank import cache, tasks
from autorank.modeling import base
from autorank.spec import TaskSpec
from autorank.tasks.task import TaskData


class Workshop:
    """Loads a base model and a task's data once and lends them to one run after another.

    One of each is kept: the runs of a search all ask for the same. `probes` is the folder where methods keep what other
    runs can reuse.
    """

    def __init__(self, device: torch.device | str | None = None, probes: Path | None = None) -> None:
        self.probes = probes or cache.folder() / "probes"
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._data: tuple[tuple[TaskSpec, str], TaskData] | None = None
        self._base: tuple[tuple[str, int, torch.dtype], base.BaseModel] | None = None

    def data(self, task: TaskSpec, model: str) -> TaskData:
        """The task, tokenised for the model."""
        if self._data is None or self._data[0] != (task, model):
            self._data = (task, model), tasks.load(task, model)
        return self._data[1]

    def keep(self, task: TaskSpec, model: str, data: TaskData) -> None:
        """Lend these data for the task, which were tokenised elsewhere."""
        self._data = (task, model), data

    def base(self, model: str, outputs: int, dtype: torch.dtype) -> base.BaseModel:
        """The base model with a head of this width, as the last run left it: `reset` it before use."""
        key = model, outputs, dtype
        if self._base is None or self._base[0] != key:
            self._base = None  # free the old one first
            self._base = key, base.load(model, outputs, dtype, str(self.device))
        return self._base[1]


def fingerprint(model: str) -> str:
    """Names a model's content: the Hub name, or for a folder also its files' sizes and times."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    files = sorted(file for file in folder.iterdir() if file.is_file())
    listing = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((str(folder.resolve()), listing)).encode()).hexdigest()
