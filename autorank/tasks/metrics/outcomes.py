"""The outcome of an evaluation for each example, as far as the score depends on it, and its compact form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a model predicted for each example, or the terms that each example adds to a score.

    Attributes:
        formula: How the score follows from them, a key of `resampling.FORMULAS`.
        values: This model's values, `examples x columns`.
        reference: What all models have in common, such as labels, `examples x columns`.
        splits: Number of examples of each validation split, in their order.
    """

    formula: str
    values: np.ndarray
    reference: np.ndarray
    splits: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.values)


class Scores(dict[str, float]):
    """Metrics by name, the score first, with the outcomes that the score follows from.

    Args:
        metrics: The metrics.
        outcomes: The outcomes; None if the score cannot be computed from values of examples, or is not finite.
    """

    def __init__(self, metrics: dict[str, float], outcomes: Outcomes | None = None) -> None:
        super().__init__(metrics)
        self.outcomes = outcomes


def pack(models: Sequence[Outcomes]) -> bytes:
    """Compress outcomes of several models on the same examples.

    Before compression a class has a byte, other numbers four.

    Args:
        models: Outcomes of at least one model; all have the same formula, reference and splits.

    Returns:
        A compressed NumPy archive.
    """
    first = models[0]
    file = io.BytesIO()
    np.savez_compressed(
        file, allow_pickle=False, formula=np.array(first.formula),
        values=np.stack([_compact(model.values) for model in models]), reference=_compact(first.reference),
        splits=np.array(first.splits, dtype=np.int32),
    )  # fmt: skip
    return file.getvalue()


def unpack(content: bytes) -> list[Outcomes]:
    """Return the outcomes that `pack` compressed.

    Args:
        content: What `pack` returned.

    Returns:
        The outcomes of each model.

    Raises:
        ValueError: The content is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            formula, splits, reference = str(file["formula"]), tuple(map(int, file["splits"])), file["reference"]
            models = [Outcomes(formula, values, reference, splits) for values in file["values"]]
    except Exception as error:  # zipfile, zlib and NumPy have their own
        raise ValueError(f"damaged predictions: {error}") from error
    if any(not len(model) == len(reference) == sum(splits) > 0 for model in models):
        raise ValueError("damaged predictions: they are of different numbers of examples")
    return models


def _compact(values: np.ndarray) -> np.ndarray:
    """Integers in as few bytes as hold them, other numbers as float32."""
    if values.dtype.kind not in "iub":
        return values.astype(np.float32)
    smallest = np.result_type(*(np.min_scalar_type(int(end)) for end in (values.min(initial=0), values.max(initial=0))))
    return values.astype(smallest)
