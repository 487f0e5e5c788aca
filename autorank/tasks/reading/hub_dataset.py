"""Datasets on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autorank.errors import AutorankError
from autorank.modeling.loading.hub_access import hub_access
from autorank.tasks.reading import arrow_tables
from autorank.tasks.reading.columns import locate
from autorank.tasks.splits.table import Table


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the Hub, or in its local cache.

    Attributes:
        repository: Its repository, `owner/name`.
        configuration: Its configuration; None: the default one.
    """

    repository: str
    configuration: str | None = None

    def __str__(self) -> str:
        return self.repository + (f" ({self.configuration})" if self.configuration else "")

    @property
    def splits(self) -> list[str]:
        """Names of the splits.

        Raises:
            AutorankError: As `read`.
        """
        return list(self._all)

    def read(self, split: str, names: Sequence[str]) -> Table:
        """Read columns of a split.

        Args:
            split: Name of the split, or a part of it, such as `train[:80%]`.
            names: The columns; parts of nested ones with dots.

        Returns:
            The columns; class numbers are replaced by names where the dataset has them.

        Raises:
            AutorankError: The dataset cannot be reached and is not cached, access is denied, it does not exist, or it
                has no such configuration, split or column.
        """
        data = self._split(split)
        source = f"split {split!r} of {self}"
        columns = {location.column for location in locate(source, names, data.column_names).values()}
        table = data.select_columns(sorted(columns)).with_format("arrow")[:]
        return Table(arrow_tables.select(source, table, names, data.features.to_dict()), source)

    def columns(self, split: str) -> list[str]:
        """Return the names of the columns of a split; raises as `read`."""
        return list(self._split(split).column_names)

    def overlap(self, split: str, other: str) -> bool:
        """Return whether a split contains all of another one or of a part of it: `train` contains `train[90%:]`.

        Two different parts of a split are not compared.
        """
        parts, others = (re.split(r"\s*\+\s*", names) for names in (split, other))
        return any(a == b or a.startswith(f"{b}[") or b.startswith(f"{a}[") for a in parts for b in others)

    def _split(self, split: str) -> Any:
        return self._all[split] if split in self._all else self._load(split)

    @cached_property
    def _all(self) -> dict[str, Any]:
        """All splits by name."""
        return dict(self._load(None))

    def _load(self, split: str | None) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise AutorankError(
                f"Dataset {self.repository!r} is on the Hub, which needs the package datasets. Run `pip install "
                "datasets`, or use files with --data DIR."
            ) from error

        failures = (ValueError, RuntimeError, FileNotFoundError, datasets.exceptions.DatasetsError)
        try:
            with _without_progress_bars(datasets), hub_access("dataset", self.repository):
                return datasets.load_dataset(self.repository, self.configuration, split=split)
        except failures as error:  # no such configuration or split, not in the cache, or no data files
            message = " ".join(str(error).split()).partition(" Example of usage:")[0]
            raise AutorankError(
                f"Dataset {str(self)!r} cannot be loaded{f' with split {split!r}' if split else ''}: {message} Choose "
                "a configuration with --data owner/name:configuration, or use files with --data DIR."
            ) from error


@contextlib.contextmanager
def _without_progress_bars(datasets: Any) -> Iterator[None]:
    bars_enabled = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if bars_enabled:
            datasets.enable_progress_bars()
