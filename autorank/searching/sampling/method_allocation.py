"""Which method runs the next trial (ours).

1. Every fourth trial is the baseline's, if there is one: it must be tuned as well as the methods.
2. A method with fewer than `MIN_TRIALS` trials comes first: the one with the fewest, in the order of the search.
3. So does a method with less than a third of an equal share: methods that start slowly are not given up.
4. Otherwise the method is drawn by Thompson sampling. Each has a Beta(1 + hits, 1 + misses) belief about how often one
   of its trials is on the current front; the highest draw wins. Methods that extend the front get more trials.

The choice depends on the trials and the seed alone, so an interrupted search continues as it would have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from autorank.spec import MethodSpec, SearchSpec
from autorank.trials.record import TrialRecord

BASELINE_EVERY = 4
MIN_TRIALS = 6  # the first two or three have fixed settings


def next_method(
    spec: SearchSpec, trials: Sequence[TrialRecord], front: Collection[int], untried: Collection[str]
) -> MethodSpec:
    """Return the method of the next trial.

    Args:
        spec: The search.
        trials: All trials so far.
        front: Numbers of the trials on the front.
        untried: Methods with settings that were not tried yet; at least one of them is not the baseline.

    Returns:
        The method and its space.
    """
    number = len(trials)
    if spec.baseline and spec.baseline.method in untried and number % BASELINE_EVERY == BASELINE_EVERY - 1:
        return spec.baseline
    methods = [entry for entry in spec.methods if entry.method in untried]
    if len(methods) == 1:
        return methods[0]
    counts = Counter(trial.method for trial in trials)
    fewest = min(methods, key=lambda entry: counts[entry.method])
    if counts[fewest.method] < max(MIN_TRIALS, number / (3 * len(methods))):
        return fewest
    hits = Counter(trial.method for trial in trials if trial.number in front)
    rng = np.random.default_rng([spec.seed, number])
    draws = [rng.beta(1 + hits[entry.method], 1 + counts[entry.method] - hits[entry.method]) for entry in methods]
    return methods[int(np.argmax(draws))]
