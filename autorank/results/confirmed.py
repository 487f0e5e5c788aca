"""Points of a front trained again with fresh seeds: how well they do then, and how sure it is that they are on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorank.results.front import Point

DRAWS = 20_000
Results = Mapping[tuple[int, int, int], Mapping[str, Any]]  # (trial, step, seed) -> as `Journal.confirm` stores it


@dataclass(frozen=True)
class Confirmed:
    """Of one point. `sd`: of the scores, None with one seed; `on_front`: a probability, None without any spread."""

    seeds: int
    mean: float
    sd: float | None
    on_front: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.sd is None else f"{self.mean:.4f} ± {self.sd:.4f}"


def summarise(points: Sequence[Point], results: Results) -> dict[tuple[int, int], Confirmed]:
    """(trial, step) -> what is known of a point, for those of the front that were trained again.

    The probability of being on the front (ours): the true means are taken to be independent, each around the mean of
    its scores with Student's t of the pooled variance (as many degrees of freedom as all scores have), and a point is
    on the front of a draw if none with no more parameters has a higher mean.
    """
    scores = {
        (p.trial, p.step): [
            result["score"] for (trial, step, _), result in results.items()
            if (trial, step) == (p.trial, p.step) and math.isfinite(result.get("score", math.nan))
        ]
        for p in points
    }  # fmt: skip
    known = [p for p in points if scores[p.trial, p.step]]
    samples = [np.array(scores[p.trial, p.step]) for p in known]
    chances = _on_front([p.adapter_params for p in known], samples)
    return {
        (p.trial, p.step): Confirmed(
            len(sample), float(sample.mean()), float(sample.std(ddof=1)) if len(sample) > 1 else None, chance
        )
        for p, sample, chance in zip(known, samples, chances, strict=True)
    }


def _on_front(params: Sequence[int], samples: Sequence[np.ndarray]) -> Sequence[float | None]:
    freedom = sum(len(sample) - 1 for sample in samples)
    if freedom < 1:
        return [None] * len(samples)
    pooled = math.sqrt(sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples) / freedom)
    means = np.array([sample.mean() for sample in samples])
    scale = pooled / np.sqrt([len(sample) for sample in samples])
    drawn = means + scale * np.random.default_rng(0).standard_t(freedom, (DRAWS, len(samples)))  # draws x points
    smaller = np.array(params)[None, :] <= np.array(params)[:, None]
    return [float((drawn[:, i] >= drawn[:, smaller[i]].max(axis=1)).mean()) for i in range(len(samples))]
