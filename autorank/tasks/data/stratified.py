"""Samples of labelled examples in which every class, or every tenth of a regression's labels, keeps its share."""

from __future__ import annotations

import math

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import SHOWN
from autorank.tasks.definition import Task

QUANTILES = 10  # strata of a regression's labels (ours)
TUNE_SEED = 0


def stratified(labels: np.ndarray, ratio: float, seed: int, quantiles: int = QUANTILES) -> np.ndarray:
    """Sorted indices of a sample with every label's share kept: ⌈ratio · n⌉ examples of each, at least one.

    Regression labels (floating point) are first cut at their quantiles, by default deciles. labels: examples -> sample.
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
    """Sorted indices of all examples of ⌈ratio · n⌉ prompts, so that none of these is on both sides.

    prompts: which prompt each example has -> sample.

    Raises:
        AutorankError: there are fewer than two prompts.
    """
    known = np.unique(prompts)
    if len(known) < 2:
        raise AutorankError(
            "There must be two different prompts at least, one to hold out for validation and one to train on, but "
            f"there is {len(known)}. Add some, or give a folder with train and validation files."
        )
    count = min(math.ceil(ratio * len(known) - 1e-9), len(known) - 1)
    return np.flatnonzero(np.isin(prompts, np.random.default_rng(seed).choice(known, count, replace=False)))


def held_out(task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
    """Sorted indices of the training examples on which a search selects: of each stratum `ratio`, the same every time.

    Strata are classes, questions with and without an answer, or all of the examples. Regression labels are cut into
    deciles, or where fewer than ten examples are to be held out into as many parts: one of each decile would be too
    many. labels: examples -> held out; `ratio` is at most 1/2, and 0 holds out none.

    Raises:
        AutorankError: a class cannot be on both sides, for there are fewer than two examples of it.
    """
    if not ratio:
        return np.empty(0, np.int64)
    if task.kind == "generation":
        return whole_prompts(labels, ratio, TUNE_SEED)
    if not task.label_names:
        if len(labels) < 2:
            raise AutorankError(
                f"--tune-split {ratio:g} needs two training examples at least, one to hold out and one to train on, "
                f"but there is {len(labels)}. Add examples (or raise --max-train-examples), or leave --tune-split out."
            )
        count = max(1, math.ceil(ratio * len(labels) - 1e-9))
        return stratified(labels, ratio, TUNE_SEED, min(QUANTILES, count))
    counts = np.bincount(labels, minlength=task.outputs)
    scarce = np.flatnonzero(counts < 2)
    if len(scarce):
        listed = ", ".join(f"{task.label_names[i]!r} ({counts[i]})" for i in scarce[:SHOWN])
        more = f" and {len(scarce) - SHOWN} more" if len(scarce) > SHOWN else ""
        raise AutorankError(
            f"--tune-split {ratio:g} needs two examples of each class, one to hold out and one to train on, but "
            f"among the {len(labels)} training examples there are too few of {listed}{more}. Add examples of these "
            "classes (or raise --max-train-examples), or leave --tune-split out."
        )
    return stratified(labels, ratio, TUNE_SEED)
