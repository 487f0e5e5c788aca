"""Optuna's samplers as searches use them."""

from __future__ import annotations

from optuna.samplers import BaseSampler


def make_sampler(name: str, seed: int, trials: int = 0) -> BaseSampler:
    """A seeded sampler. `trials` is how many the study has: a sampler that goes on must not repeat itself.

    TPE takes each setting by itself, Optuna's default for several objectives. It and GP start with 10 random
    trials (Optuna's default). NSGA-II's generations are of 16 (ours): with Optuna's 50 most searches here
    would end within the first, which is random.
    """
    from optuna import samplers

    match name:
        case "tpe":
            return samplers.TPESampler(seed=seed + trials)
        case "nsga2":
            return samplers.NSGAIISampler(population_size=16, seed=seed + trials)
        case "gp":
            return samplers.GPSampler(seed=seed + trials)
        case "random":
            return samplers.RandomSampler(seed=seed + trials)
    raise ValueError(f"no sampler {name!r}")
