from pathlib import Path

from autorank.tasks.demo.grammar import pairs
from autorank.tasks.task import Task

DEMO = Task("demo", "classification", ("sentence1", "sentence2"), "label", ("different", "same"), ("accuracy", "f1"), model=str(Path(__file__).parent / "model"), epochs=3, batch_size=32, max_length=64, source="ours")
__all__ = ["DEMO", "pairs"]
