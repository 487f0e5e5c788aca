"""The demo task: generated sentence pairs and a small base model, both part of the package; needs no network."""

from __future__ import annotations

from pathlib import Path

from autorank.tasks.definition import Task
from autorank.tasks.kinds.classification import CLASSIFICATION
from autorank.tasks.named.demo.sentence_pairs import pairs

DEMO = Task(
    name="demo",
    kind=CLASSIFICATION,
    text=("sentence1", "sentence2"),
    label="label",
    label_names=("different", "same"),
    metrics=("accuracy", "f1"),
    model=str(Path(__file__).resolve().parent / "model"),
    epochs=3,
    batch_size=32,
    max_length=64,
    source="ours",
)

__all__ = ["DEMO", "pairs"]
