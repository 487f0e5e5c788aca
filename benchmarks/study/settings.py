"""The settings of the study: tasks, methods, and one search for each pair of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autorank import methods
from autorank.searching.create import make_spec
from autorank.searching.space.space import Space, load
from autorank.spec import SearchSpec, TaskSpec, TrainingSpec

SEEDS = 3  # new seeds of each point of a front, on average
BASELINE, REPEATED_BASELINE = "lora", "lora again"
REPEATED_BASELINE_SEED = 1
EXCLUDED = ("lora", "bitfit", "full")  # the baseline, and methods without low-rank updates or bottlenecks
TARGETS = {"choices": ["attention-qv", "all-linear"]}
TUNE_SPLIT = 0.15  # of the training examples: searches select on them, and new seeds are scored on the validation split

TASKS: dict[str, dict[str, Any]] = {
    "mrpc": {"steps": 200, "eval_every": 40, "batch_size": 16, "max_length": 64},
    "stsb": {"steps": 150, "eval_every": 30, "batch_size": 16, "max_length": 40},
    "sst2": {"steps": 150, "eval_every": 30, "batch_size": 16, "max_length": 48, "max_train_examples": 5000},
    "qqp": {"steps": 200, "eval_every": 40, "batch_size": 16, "max_length": 64, "max_train_examples": 2490},
    "cola": {"steps": 400, "eval_every": 80, "batch_size": 16, "max_length": 32},
    "demo": {"steps": 60, "eval_every": 20, "batch_size": 16, "max_train_examples": 600},
}
PAIRS = ("mrpc", "stsb")  # learned in so few steps only from a base model that was trained on other pairs before
MAX_EVAL_EXAMPLES = 500


def all_methods() -> list[str]:
    """The methods of the study: all with low-rank updates or bottlenecks."""
    return [name for name in methods.names() if name not in EXCLUDED]


def search_name(task: str, method: str) -> str:
    """The name of a search, which is its directory."""
    return f"{task}-{method.replace(' ', '-')}"


def search_spec(task: str, method: str, model: str | None, data: Path | None, precision: Any = "auto") -> SearchSpec:
    """Return the search of a method on a task.

    Args:
        task: One of `TASKS`.
        method: A method, or `REPEATED_BASELINE`, the baseline with another seed.
        model: The base model; None: that of the task.
        data: A directory with one directory per task; None: from the Hub.
        precision: The precision of training.

    Returns:
        The search, without a baseline: plain LoRA has a search of its own, with the same number of trials.
    """
    values = dict(TASKS[task])
    examples = {name: values.pop(name, None) for name in ("max_length", "max_train_examples")}
    seed = REPEATED_BASELINE_SEED if method == REPEATED_BASELINE else 0
    name = BASELINE if method == REPEATED_BASELINE else method
    return make_spec(
        {name: _space(name)},
        TaskSpec(
            name=task, data=None if data is None or task == "demo" else str(data / task), tune_split=TUNE_SPLIT,
            max_eval_examples=MAX_EVAL_EXAMPLES, **examples,
        ),
        None if task == "demo" else model, TrainingSpec(**values, slices="auto", precision=precision, seed=seed),
        search_name(task, method), baseline=False, catalogue=False, seed=seed,
    )  # fmt: skip


def _space(method: str) -> Space:
    """The method's own space; the adapted layers are searched for every method that has a choice of them."""
    space = load(method)
    if "targets" not in methods.find(method).Config.model_fields or "targets" in space.ranges:
        return space
    fixed = {name: value for name, value in space.fixed.items() if name != "targets"}
    return Space(space.ranges | {"targets": TARGETS}, fixed)
