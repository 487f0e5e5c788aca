"""Searches, trials and evaluations made by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autorank.spec import MethodSpec, ObjectivesSpec, SearchSpec, TaskSpec
from autorank.training.evaluation import Evaluation, Slice
from autorank.trials.front import NO_LIMITS, front
from autorank.trials.point import Point
from autorank.trials.record import State, TrialRecord
from autorank.trials.snapshot import Snapshot

START = 1_700_000_000.0  # start of trial 0; each later trial starts 100 s after the one before
KINDS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def search(*methods: str, baseline: bool = False, **values: Any) -> SearchSpec:
    """Return a search of these methods, by default of LoRA-drop."""
    space = {"rank": {"type": "int", "low": 1, "high": 8}}
    entries = tuple(MethodSpec(method=method, space=space) for method in methods or ("lora-drop",))
    defaults = {"name": "first", "task": TaskSpec(name="demo"), "methods": entries}
    return SearchSpec(**defaults | ({"baseline": MethodSpec(method="lora", space=space)} if baseline else {}) | values)


def evaluation(step: int, params: int, score: float, **values: Any) -> Evaluation:
    defaults = {
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
    return Evaluation(**defaults | values)


def sliced(step: int, params: int, score: float, *slices: tuple[int, float], **values: Any) -> Evaluation:
    """An evaluation with slices of these (params, score); the i-th keeps i components of its first layer."""
    unsliced = evaluation(step, params, score, **values)
    names = list(unsliced.ranks)
    built = (
        Slice(size, result, {"accuracy": result}, {name: 2**i - 1 if name == names[0] else 0 for name in names})
        for i, (size, result) in enumerate(slices, start=1)
    )
    return replace(unsliced, slices=tuple(built))


def trial(
    number: int, *points: tuple[int, float] | Evaluation, state: State = "complete", **values: Any
) -> TrialRecord:
    """A trial whose evaluations, at steps 10, 20, ..., have these (params, score); one that ended took a minute."""
    evaluations = tuple(
        point if isinstance(point, Evaluation) else evaluation(10 * i, *point)
        for i, point in enumerate(points, start=1)
    )
    defaults = {
        "method": "lora-drop",
        "settings": {"learning_rate": 1e-3 * (number + 1), "rank": 8},
        "seconds": evaluations[-1].seconds if evaluations else 0.0,
        "started": START + 100 * number,
        "ended": START + 100 * number + 60 if state != "running" else 0.0,
    }
    return TrialRecord(number=number, state=state, evaluations=evaluations, **defaults | values)


def snapshot(
    trials: Sequence[TrialRecord], objectives: ObjectivesSpec = NO_LIMITS,
    reference: tuple[float, float] = (1_000_000.0, 0.0),
) -> Snapshot:  # fmt: skip
    """The trials with their fronts, taken from scratch."""
    points, baseline = front(trials, objectives), front(trials, objectives, baseline=True)
    return Snapshot(list(trials), points, baseline, objectives=objectives, reference=reference)


def point_values(points: Sequence[Point]) -> list[tuple[int, int, int, float]]:
    """Trial, step, parameters and score of each point."""
    return [(p.trial, p.step, p.adapter_params, p.score) for p in points]


def base_ranks(seed: int = 0, layers: int = 12) -> dict[str, int]:
    """A rank map of RoBERTa-base, 72 modules."""
    draw = random.Random(seed)
    return {f"roberta.encoder.layer.{i}.{kind}": draw.randrange(16) for i in range(layers) for kind in KINDS}
