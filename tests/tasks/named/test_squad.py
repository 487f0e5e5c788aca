"""The two SQuAD tasks, as defined by their papers and IncreLoRA's script."""

from __future__ import annotations

import pytest

from autorank.tasks import TASKS
from autorank.tasks.named.squad import SQUAD


@pytest.mark.parametrize(
    ("name", "hub", "unanswerable"),
    [
        ("squad_v1", ("rajpurkar/squad", "plain_text"), False),
        ("squad_v2", ("rajpurkar/squad_v2", "squad_v2"), True),
    ],
)
def test_definition(name: str, hub: tuple[str, str], unanswerable: bool) -> None:
    task = SQUAD[name]
    assert TASKS[name] is task
    assert (task.kind.name, task.text, task.label, task.outputs) == ("span", ("question", "context"), "answers", 2)
    assert (task.hub, task.unanswerable, task.metrics) == (hub, unanswerable, ("f1", "exact_match"))
    assert (task.epochs, task.batch_size, task.max_length) == (14, 16, 384)
    assert task.model == "microsoft/deberta-v3-base"
