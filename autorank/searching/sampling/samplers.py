"""Optuna's samplers as searches use them."""

from __future__ import annotations

from optuna.samplers import BaseSampler

STARTUP = 5  # trials that TPE draws at random; a method's first settings are among them


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A seeded sampler.

    TPE takes each setting by itself, Optuna's default for several objectives. It learns from the fifth trial on
    (ours; Optuna's default, 10, is a large part of a search here), GP from the tenth. NSGA-II's generations are of 16
    (ours): with Optuna's 50 most searches here would end within the first, which is random. A search with it that was
    cut off has other children than an undisturbed one; with the others it proposes the same.
    """
    from optuna import samplers

    match name:
        case "tpe":
            return samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        case "nsga2":
            return samplers.NSGAIISampler(population_size=16, seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed)
        case "random":
            return samplers.RandomSampler(seed=seed)
    raise ValueError(f"no sampler {name!r}")
