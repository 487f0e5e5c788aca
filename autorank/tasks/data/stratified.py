"""Stratified samples: each class, or each decile of regression labels, keeps its share."""

from __future__ import annotations

import math

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import SHOWN
from autorank.tasks.definition import Task

QUANTILES = 10  # strata of regression labels (ours)
TUNE_SEED = 0


def stratified(labels: np.ndarray, ratio: float, seed: int, quantiles: int = QUANTILES) -> np.ndarray:
    """Draw a stratified sample: ⌈ratio · n⌉ examples of each label, at least one.

    Args:
        labels: `examples`; floating-point labels are first cut at their quantiles.
        ratio: Fraction of the examples.
        seed: Random seed.
        quantiles: Number of strata of floating-point labels.

    Returns:
        Indices in ascending order, `sample`.
    """
    generator = np.random.default_rng(seed)
    if np.issubdtype(labels.dtype, np.floating):
        edges = np.quantile(labels, np.arange(1, quantiles) / quantiles)
        labels = np.searchsorted(edges, labels, side="right")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = math.ceil(ratio * len(members) - 1e-9)
        chosen.append(generator.choice(members, max(1, count), replace=False))
    return np.sort(np.concatenate(chosen))


def whole_prompts(prompts: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Draw ⌈ratio · n⌉ prompts with all their examples, so no prompt is in both parts.

    Args:
        prompts: Number of each example's prompt, `examples`.
        ratio: Fraction of the prompts.
        seed: Random seed.

    Returns:
        Indices in ascending order, `sample`.

    Raises:
        AutorankError: There are fewer than two prompts.
    """
    distinct = np.unique(prompts)
    if len(distinct) < 2:
        raise AutorankError(
            "At least two different prompts are needed, one for validation and one for training, but the data has "
            f"{len(distinct)}. Add prompts, or use a directory with train and validation files."
        )
    count = min(math.ceil(ratio * len(distinct) - 1e-9), len(distinct) - 1)
    return np.flatnonzero(np.isin(prompts, np.random.default_rng(seed).choice(distinct, count, replace=False)))


def held_out(task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
    """Choose the training examples that a search selects on: `ratio` of each stratum, always the same ones.

    Strata are classes, questions with and without an answer, or all examples. Regression labels are cut into deciles,
    or into fewer parts if fewer than ten examples are held out.

    Args:
        task: The task.
        labels: `examples`.
        ratio: Fraction of the examples, at most 1/2; 0 holds out none.

    Returns:
        Indices in ascending order, `held out`.

    Raises:
        AutorankError: A class has fewer than two examples, or there are fewer than two examples or prompts.
    """
    if not ratio:
        return np.empty(0, np.int64)
    if task.kind == "generation":
        return whole_prompts(labels, ratio, TUNE_SEED)
    if not task.label_names:
        if len(labels) < 2:
            raise AutorankError(
                f"--tune-split {ratio:g} needs at least two training examples, one to hold out and one to train on, "
                f"but the data has {len(labels)}. Add examples (or increase --max-train-examples), or omit "
                "--tune-split."
            )
        count = max(1, math.ceil(ratio * len(labels) - 1e-9))
        return stratified(labels, ratio, TUNE_SEED, min(QUANTILES, count))
    counts = np.bincount(labels, minlength=task.outputs)
    scarce = np.flatnonzero(counts < 2)
    if len(scarce):
        listed = ", ".join(f"{task.label_names[i]!r} ({counts[i]})" for i in scarce[:SHOWN])
        more = f" and {len(scarce) - SHOWN} more" if len(scarce) > SHOWN else ""
        raise AutorankError(
            f"--tune-split {ratio:g} needs two examples of each class, one to hold out and one to train on, but the "
            f"{len(labels)} training examples have too few of {listed}{more}. Add examples of these classes (or "
            "increase --max-train-examples), or omit --tune-split."
        )
    return stratified(labels, ratio, TUNE_SEED)
