"""Asynchronous successive halving for two objectives: decides which trials continue after a rung.

MO-ASHA (Schmucker et al. 2021, arXiv 2106.12639): trials that reach a rung are ranked by non-dominated sorting, ties
within a layer broken by an ε-net, and the best 1/η continue. Here (ours):

- Parameters follow from the settings, so whole adapters are compared with their final parameters and current scores. A
  point is beaten by a point with at most as many parameters and a strictly higher score.
- A trial is a curve: its adapter and the slices that were scored. It is beaten if all these points are beaten.
- All trials that are not beaten continue, because each may become a point of the front.

Trials of different methods are not compared, because methods learn at different speeds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autorank.spec import HalvingSpec

MAX_RUNG_TRIALS = 1_000  # number of latest trials of a rung that are compared; limits the time of a decision


class Reached(NamedTuple):
    """A point of a trial at a rung: parameters, for a whole adapter the final ones, and the best score so far."""

    params: float
    score: float


Curve = Sequence[Reached]


class Halving:
    """The rungs of a search, with the trials that have reached them.

    With the default factor the first rung is after a third of a run. Earlier, runs that learn and runs that do not have
    similar scores (on SST-2 a first rung after a ninth stopped the wrong trials).

    Args:
        spec: Settings of successive halving.
        evaluations: Evaluations of a complete run.
    """

    def __init__(self, spec: HalvingSpec, evaluations: int) -> None:
        self._spec = spec
        self._grace = spec.grace or max(1, round(evaluations / spec.factor))
        self._rungs: dict[tuple[str, int], dict[int, Curve]] = defaultdict(dict)

    def record(self, method: str, number: int, evaluations: int, curve: Curve) -> None:
        """Record a trial's curve at a rung.

        Args:
            method: Method of the trial.
            number: Number of the trial.
            evaluations: Number of its evaluations, at which there is a rung.
            curve: Its points.
        """
        rung = self._rungs[method, evaluations]
        rung[number] = curve
        if len(rung) > MAX_RUNG_TRIALS:
            del rung[next(iter(rung))]

    def continues(self, method: str, number: int, evaluations: int) -> bool:
        """Decide whether a recorded trial continues. Later it may not, since other trials may have beaten it.

        Args:
            method: Method of the trial.
            number: Number of the trial.
            evaluations: Number of its evaluations, at which there is a rung.

        Returns:
            Whether it continues.
        """
        rung = self._rungs[method, evaluations]
        return promoted(list(rung.values()), list(rung).index(number), self._spec.factor)

    def is_rung(self, evaluations: int) -> bool:
        """Return whether there is a rung after this number of evaluations, grace · η^k for an integer k."""
        rung = self._grace
        while rung < evaluations:
            rung *= self._spec.factor
        return bool(rung == evaluations)


def promoted(rung: Sequence[Curve], index: int, factor: int) -> bool:
    """Decide whether a trial continues.

    Args:
        rung: Curves of the trials at a rung.
        index: Index of the trial.
        factor: η.

    Returns:
        Whether it is among the best 1/η of the rung, or not beaten at all.
    """
    if len(rung) < factor:
        return True
    layer, tops = best_points(rung)
    own_layer = layer[index]
    slots = math.ceil(len(rung) / factor) - sum(other < own_layer for other in layer)  # for trials of this layer
    peers = [i for i, other in enumerate(layer) if other == own_layer]
    if own_layer == 0 or len(peers) <= slots:
        return True
    return slots > 0 and index in [peers[i] for i in spread([tops[i] for i in peers])[:slots]]


def best_points(rung: Sequence[Curve]) -> tuple[list[int], list[Reached]]:
    """Return the lowest layer of each trial's points, and its best point in that layer.

    A trial's own points do not beat each other: those that are beaten within their curve are left out.
    """
    points = [(number, point) for number, curve in enumerate(rung) for point in _unbeaten(curve)]
    best: list[tuple[int, float, Reached] | None] = [None] * len(rung)
    for (number, point), layer in zip(points, layers([point for _, point in points]), strict=True):
        key = (layer, -point.score, point)
        best[number] = min(key, best[number] or key)
    return [key[0] for key in best if key], [key[2] for key in best if key]


def _unbeaten(curve: Curve) -> list[Reached]:
    return [point for point, layer in zip(curve, layers(curve), strict=True) if layer == 0]


def layers(points: Sequence[Reached]) -> list[int]:
    """Return the non-dominated layer of each point, from 0: one more than the highest layer of those that beat it.

    In order of parameters, best scores first, a point's layer is the first whose best score is not above its own;
    these best scores fall from layer to layer, so it is found by bisection.
    """
    layer_of = [0] * len(points)
    tops: list[float] = []  # layer -> minus its best score so far, in ascending order
    for i in sorted(range(len(points)), key=lambda i: (points[i].params, -points[i].score)):
        layer = bisect_left(tops, -points[i].score)
        layer_of[i] = layer
        if layer == len(tops):
            tops.append(-points[i].score)
        else:
            tops[layer] = -points[i].score
    return layer_of


def spread(points: Sequence[Reached]) -> list[int]:
    """Return indices in the order of an ε-net: the highest score, then always the point farthest from the previous.

    Distances are Euclidean, with log(parameters) and score scaled to [0, 1]; ties go to the earlier point.
    """
    plane = np.array([[math.log(max(point.params, 1)), point.score] for point in points])
    span = np.ptp(plane, axis=0)
    plane = (plane - plane.min(axis=0)) / np.where(span > 0, span, 1)
    order = [int(np.argmax(plane[:, 1]))]
    nearest = np.full(len(points), np.inf)
    while len(order) < len(points):
        nearest = np.minimum(nearest, np.linalg.norm(plane - plane[order[-1]], axis=1))
        nearest[order] = -1
        order.append(int(np.argmax(nearest)))
    return order
