"""Use autorank's training in your own Ray Tuner and in your own Ray TorchTrainer.

python examples/plain_ray.py
"""

from __future__ import annotations

from ray import train, tune
from ray.train.torch import TorchTrainer

import autorank


def with_tune() -> None:
    """Works with any searcher, scheduler or callback of Ray Tune; `reuse_actors` keeps model and data loaded."""
    trainable = autorank.tune_trainable("lora", task="demo", steps=90, eval_every=30)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"rank": tune.choice([1, 2, 4, 8]), "learning_rate": tune.loguniform(5e-4, 5e-3)},
        tune_config=tune.TuneConfig(metric="score", mode="max", num_samples=3, reuse_actors=True),
        run_config=tune.RunConfig(name="autorank-lora"),
    ).fit()
    for result in results:
        print(result.config, result.metrics["adapter_params"], "parameters: score", result.metrics["score"])


def with_train() -> None:
    """One run in Ray Train with two workers; it is checkpointed at each evaluation and resumes from there."""
    trainer = TorchTrainer(
        autorank.train_loop("lora-drop", task="demo", steps=90, eval_every=30),
        train_loop_config={"threshold": 0.8, "rank": 4, "learning_rate": 2e-3},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(name="autorank-lora-drop"),
    )
    result = trainer.fit()
    print("score", result.metrics["score"], "adapter in", result.checkpoint.path)


if __name__ == "__main__":
    with_tune()
    with_train()
