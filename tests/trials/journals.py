"""Constants and helpers for tests of the journal."""

from __future__ import annotations

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autorank.trials.journal.journal_file import JOURNAL

REFERENCE = (1000.0, 0.5)

CONFIG = {"learning_rate": 1e-3, "rank": 4, "alpha": 16, "target_modules": ["query", "value"]}

SAMPLED = {
    "learning_rate": (1e-3, FloatDistribution(1e-4, 1e-2, log=True)),
    "rank": (4, IntDistribution(1, 8)),
    "shape": ("step", CategoricalDistribution(["step", "smooth"])),
}


def begin_trial(journal, **values):
    return journal.begin("lora-drop", CONFIG, SAMPLED, **values).number


def optuna_study(folder):
    """The study as Optuna itself reads it."""
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))


def journal_size(folder):
    return (folder / JOURNAL).stat().st_size
