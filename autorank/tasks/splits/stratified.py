"""Stratified samples: each class, or each decile of regression labels, keeps its share."""

from __future__ import annotations

import math

import numpy as np

from autorank.errors import AutorankError

QUANTILES = 10  # strata of regression labels (ours)
TUNE_SEED = 0
HELD_OUT = 0.1  # fraction of the examples for validation if there is no validation split (ours)
HOLD_OUT_SEED = 0


def stratified(labels: np.ndarray, ratio: float, seed: int, quantiles: int = QUANTILES) -> np.ndarray:
    """Draw a stratified sample: ⌈ratio · n⌉ examples of each label, at least one.

    Args:
        labels: Label of each example, `examples`; floating-point labels are first divided at their quantiles.
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


def hold_out(strata: np.ndarray) -> np.ndarray:
    """Choose a tenth of each stratum as validation, at least one example of each with two or more.

    Args:
        strata: Stratum of each example, `examples`.

    Returns:
        Indices in ascending order.
    """
    rng = np.random.default_rng(HOLD_OUT_SEED)
    chosen = [np.empty(0, np.int64)]
    for value in np.unique(strata):
        stratum = rng.permutation(np.flatnonzero(strata == value))
        chosen.append(stratum[: min(max(1, round(HELD_OUT * len(stratum))), len(stratum) - 1)])
    return np.sort(np.concatenate(chosen))


def tune_part(labels: np.ndarray, ratio: float) -> np.ndarray:
    """Choose the training examples that a search selects on, from tasks without classes: `ratio` of each stratum.

    Regression labels are divided into deciles, or into fewer parts if fewer than ten examples are held out.

    Args:
        labels: Label of each example, `examples`.
        ratio: Fraction of the examples.

    Returns:
        Indices in ascending order, `sample`.

    Raises:
        AutorankError: There are fewer than two examples.
    """
    if len(labels) < 2:
        raise AutorankError(
            f"--tune-split {ratio:g} needs at least two training examples, one to hold out and one to train on, but "
            f"the data has {len(labels)}. Add examples (or increase --max-train-examples), or omit --tune-split."
        )
    count = max(1, math.ceil(ratio * len(labels) - 1e-9))
    return stratified(labels, ratio, TUNE_SEED, min(QUANTILES, count))
