"""Choices and default values that the command line, the Python functions and the specs share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Sampler = Literal["tpe", "nsga2", "gp", "random"]
Scheduler = Literal["asha", "none"]
Objective = Literal["nonzero_params", "seconds", "memory"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Quantization = Literal["4bit"]
LabelType = Literal["class", "number"]
SliceScore = Literal["energy", "input", "gradient"]

COLUMN_OPTIONS = ("text", "label", "prompt", "completion", "messages")  # that name columns of the user's own data

SAMPLER: Sampler = "tpe"
PRECISION: Precision = "auto"
ACCUMULATE: Literal["auto"] = "auto"
SLICE_SCORE: SliceScore = "energy"
SLICES: Literal["auto"] = "auto"
SEED = 0
RUNS = Path("runs")  # directory of all searches
TUNE_SPLIT = 0.0  # no part of the training data is held out
WORKERS = 1
LANES = 1  # trials per process
WARMUP_RATIO = 0.06  # microsoft/LoRA, roberta_base scripts
WEIGHT_DECAY = 0.1  # likewise
MAX_GRAD_NORM = 1.0
REDUCTION_FACTOR = 3  # ours
MAX_RETRIES = 3

MAX_INT, MAX_SEED = 2**63 - 1, 2**64 - 1  # torch and numpy take no larger ones
MAX_BUDGET = 10**9  # trials, seeds, workers: more would only overflow
