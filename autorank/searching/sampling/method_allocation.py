"""Whose turn it is: how a search's trials are dealt to its methods. All of it ours.

1. Every fourth trial is the baseline's, if there is one: it must be tuned as well as what it is compared with.
2. A method that has had fewer than ENOUGH trials comes first, the one with fewest of them, in the order given.
3. So does one that has had less than a third of an equal share: methods that start slowly are not given up.
4. Then methods are drawn by Thompson sampling: each has a Beta(1 + on, 1 + off) belief about how often a trial of its
   ends on the front as it stands, and the highest draw has the turn. Those that extend the front get more trials.

It depends on the trials and the seed alone, so a search that goes on deals as one that never stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from autorank.spec import MethodSpec, SearchSpec
from autorank.trials.record import TrialRecord

BASELINE_EVERY = 4
ENOUGH = 6  # the first two are the defaults and the smallest adapter


def turn(spec: SearchSpec, trials: Sequence[TrialRecord], front: Collection[int], left: Collection[str]) -> MethodSpec:
    """The method of the next trial.

    Args:
        front: numbers of the trials on the front.
        left: methods with settings that were not tried yet; at least one that is not the baseline.
    """
    number = len(trials)
    if spec.baseline and spec.baseline.method in left and number % BASELINE_EVERY == BASELINE_EVERY - 1:
        return spec.baseline
    methods = [entry for entry in spec.methods if entry.method in left]
    if len(methods) == 1:
        return methods[0]
    had = Counter(trial.method for trial in trials)
    fewest = min(methods, key=lambda entry: had[entry.method])
    if had[fewest.method] < max(ENOUGH, number / (3 * len(methods))):
        return fewest
    on = Counter(trial.method for trial in trials if trial.number in front)
    draw = np.random.default_rng([spec.seed, number])
    beliefs = [draw.beta(1 + on[entry.method], 1 + had[entry.method] - on[entry.method]) for entry in methods]
    return methods[int(np.argmax(beliefs))]
