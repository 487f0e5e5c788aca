"""SQuAD v1.1 and v2.0, from the Hub."""

from __future__ import annotations

from autorank.tasks.definition import Task
from autorank.tasks.kinds.span import SPAN


def _squad(name: str, hub: tuple[str, str], paper: str, unanswerable: bool) -> Task:
    return Task(
        name=name,
        kind=SPAN,
        text=("question", "context"),
        label="answers",
        label_names=(),
        metrics=("f1", "exact_match"),
        hub=hub,
        model="microsoft/deberta-v3-base",
        epochs=14,
        batch_size=16,
        max_length=384,
        source=f"SQuAD (arXiv {paper}); training as in IncreLoRA's script for SQuAD v2",
        unanswerable=unanswerable,
    )


SQUAD: dict[str, Task] = {
    task.name: task
    for task in (
        _squad("squad_v1", ("rajpurkar/squad", "plain_text"), "1606.05250", unanswerable=False),
        _squad("squad_v2", ("rajpurkar/squad_v2", "squad_v2"), "1806.03822", unanswerable=True),
    )
}
