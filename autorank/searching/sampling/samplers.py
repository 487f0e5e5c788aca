"""Optuna's samplers, as searches use them."""

from __future__ import annotations

from optuna.samplers import BaseSampler

STARTUP = 5  # random trials of TPE; a method's first settings are among them


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return a seeded sampler.

    TPE proposes at random until five trials have ended (ours; Optuna's default, 10, is a large part of a search here),
    GP until ten. NSGA-II has generations of 16 (ours): with Optuna's 50 most searches would end within the first, which
    is random. An interrupted search with NSGA-II proposes other settings than an undisturbed one; the other samplers
    propose the same.

    Args:
        name: tpe, nsga2, gp or random.
        seed: Random seed of the sampler.

    Returns:
        The sampler.
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
