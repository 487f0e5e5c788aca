"""A small recipe for tests, and a model and data to train."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests import tiny_models

TABLE = """
name: try
title: A try
source: nowhere
model: some/model
tasks: [rte, mrpc]
seeds: 2
training: {batch_size: 8, epochs: {rte: 50, mrpc: 30}}
settings: {alpha: 16}
assumed:
  weight_decay: {value: 0.0, why: not given}
  learning_rate: {value: 5e-4, why: for those that say nothing}
methods:
  lora:
    settings: {rank: 4, learning_rate: {rte: 1e-3, mrpc: 2e-3}}
    reported: {params: 0.3M, score: {rte: 80.1 ± 0.2, mrpc: 90}, average: 85.05}
  grown:
    method: increlora
    settings: {mean_rank: 2, top_h: 5, interval: 100}
    assumed: {learning_rate: {value: 1e-2, why: nor this}}
    reported: {params: {rte: 0.3M}, score: {rte: 81, mrpc: {accuracy: 91, f1: 94}}}
  again: {method: increlora, ranks_of: grown, tasks: [rte]}
  gone: {method: lora, not_run: at inference only, reported: {score: {rte: 50}}}
"""


def rte_workspace(folder: Path, train: int) -> Path:
    """Writes a model to `model`, and `train` training examples in RTE's format to `data/rte`."""
    tiny_models.model("deberta-v2", folder / "model")
    (folder / "data" / "rte").mkdir(parents=True)
    for split, count in (("train", train), ("validation", 40)):
        rows = [{"sentence1": row["left"], "sentence2": row["right"], "label": row["label"]}
                for row in tiny_models.rows(count, seed=count)]  # fmt: skip
        (folder / "data" / "rte" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe_file(folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    """Writes the recipe to a file, with some texts replaced."""
    text = TABLE
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    (folder / "try.yaml").write_text(text)
    return folder / "try.yaml"
