"""Trials and evaluations made by hand."""

from __future__ import annotations

from typing import Any

from autorank.results.records import Evaluation, State, TrialRecord


def evaluation(step: int, params: int, score: float, **values: Any) -> Evaluation:
    known = {
        "step": step,
        "epoch": step / 10,
        "score": score,
        "metrics": {"accuracy": score},
        "train_loss": 1 / step,
        "adapter_params": params,
        "nonzero_params": params,
        "trainable_params": params + 100,
        "head_params": 100,
        "ranks": {"layer.0.query": 4, "layer.1.query": 4},
        "seconds": float(step),
        "peak_memory": 0,
    }
    return Evaluation(**known | values)


def trial(number: int, *points: tuple[int, float], state: State = "complete", **values: Any) -> TrialRecord:
    """A trial whose evaluations, at steps 10, 20, ..., have these (params, score)."""
    evaluations = [evaluation(10 * i, params, score) for i, (params, score) in enumerate(points, start=1)]
    config = {"learning_rate": 1e-3 * (number + 1), "rank": 8}
    known = {"seconds": 60.0, "started": 1_700_000_000.0 + 100 * number}
    return TrialRecord(number, config, state, evaluations, **known | values)
