"""Converts a table of curves to the format of Syne Tune's blackbox repository (syne-tune 0.16).

    python -m benchmarks.simulation.blackbox --curves benchmarks/curves/sst2_lora_drop.jsonl --task sst2 --to blackbox

Writes a directory for `syne_tune.blackbox_repository.blackbox_tabular.deserialize`. A configuration is a trial of one
method, the fidelity the number of its evaluation. Objectives, all to be minimized: `error` (1 - score),
`adapter_params`, and the cumulative `cost` in training steps. Evaluations after early stopping are NaN, which Syne Tune
replaces by the last value. The format cannot hold slices and new seeds. Syne Tune is needed only for `--check`, which
loads the directory and runs MO-ASHA on it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulation.curves import Curves, read_lines

OBJECTIVES = ["error", "adapter_params", "cost"]
FIDELITY = "evaluation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--method", help="method, if the table has several")
    parser.add_argument("--task", required=True, help="name of the blackbox")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="run Syne Tune's MO-ASHA on it")
    arguments = parser.parse_args()
    convert(arguments.curves, arguments.method, arguments.task, arguments.to)
    if arguments.check:
        print(check(arguments.to, arguments.task))


def convert(file: Path, method: str | None, task: str, to: Path) -> None:
    """Write a directory of the blackbox repository.

    Args:
        file: A table of curves.
        method: The method, if the table has several.
        task: Name of the blackbox.
        to: The directory.
    """
    import pandas as pd

    curves = Curves.read(file, method)
    lines = [line for line in read_lines(file) if line["curve"] and line["method"] == curves.entry.method]
    frame = pd.DataFrame([{name: line["drawn"][name] for name in curves.entry.space} for line in lines])
    unique = ~frame.duplicated().to_numpy()
    values = objectives(curves)[unique]
    to.mkdir(parents=True, exist_ok=True)
    frame[unique].to_parquet(to / "hyperparameters.parquet", index=False, compression="gzip")
    np.save(to / "objectives_evaluations.npy", values[None, :, None].astype(np.float32))
    np.save(to / "fidelities_values.npy", np.arange(1, values.shape[1] + 1))
    space = {name: domain(entry) for name, entry in curves.entry.space.items()}
    fidelity = {FIDELITY: domain({"type": "int", "low": 1, "high": values.shape[1]})}
    metadata = {"objectives_names": OBJECTIVES, "task_names": [task], "method": curves.entry.method}
    for name, content in {"configspace": space, "fidelityspace": fidelity, "metadata": metadata}.items():
        (to / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def objectives(curves: Curves) -> np.ndarray:
    """The objectives, `trials x evaluations x objectives`; NaN after a trial was stopped."""
    values = np.full((len(curves.curves), curves.evaluations, len(OBJECTIVES)), np.nan)
    for row, curve in zip(values, curves.curves, strict=True):
        for index, evaluation in enumerate(curve):
            cost = evaluation.step + (index + 1) * curves.evaluation_cost
            row[index] = 1 - evaluation.score, evaluation.adapter_params, cost
    return values


def domain(entry: dict[str, Any]) -> dict[str, Any]:
    """A range of a search space in Syne Tune's JSON format."""
    if "choices" in entry:
        kind, limits = "Categorical", {"categories": entry["choices"]}
    else:
        kind, limits = entry["type"], {"lower": entry["low"], "upper": entry["high"]}
    log = bool(entry.get("log"))
    return {
        "domain_cls": {"int": "Integer", "float": "Float"}.get(kind, kind),
        "domain_kwargs": limits,
        "sampler_cls": "LogUniform" if log else "Uniform",
        "sampler_kwargs": {"base": math.e} if log else {},
    }


def check(folder: Path, task: str) -> str:
    """Load a directory with Syne Tune, run MO-ASHA on two workers until 40 trials have started; return a summary."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository import UserBlackboxBackend, add_surrogate
    from syne_tune.blackbox_repository.blackbox_tabular import deserialize
    from syne_tune.experiments import load_experiment
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    blackbox = deserialize(str(folder))[task]
    backend = UserBlackboxBackend(blackbox=add_surrogate(blackbox), elapsed_time_attr="cost")
    scheduler = MOASHA(
        blackbox.configuration_space, OBJECTIVES[:2], time_attr=FIDELITY, max_t=int(blackbox.fidelity_values[-1]),
        grace_period=max(1, int(blackbox.fidelity_values[-1]) // 3), random_seed=0,
    )  # fmt: skip
    tuner = Tuner(
        trial_backend=backend, scheduler=scheduler, stop_criterion=StoppingCriterion(max_num_trials_started=40),
        n_workers=2, sleep_time=0, callbacks=[SimulatorCallback()], save_tuner=False,
    )  # fmt: skip
    tuner.run()
    results = load_experiment(tuner.name).results
    return (
        f"{blackbox}\nMO-ASHA: {results.trial_id.nunique()} trials, {len(results)} evaluations, "
        f"least error {results.error.min():.4f}"
    )


if __name__ == "__main__":
    main()
