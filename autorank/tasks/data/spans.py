"""Extractive question answering: questions whose answers are spans of their contexts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table


class Reference(NamedTuple):
    """A question's context and its answers; no answers: the context does not answer the question.

    Attributes:
        context: The text that predictions are cut from.
        answers: The correct answers.
        starts: Where each answer starts, in characters of the context.
    """

    context: str
    answers: list[str]
    starts: list[int]


def to_examples(task: Task, table: Table) -> Examples:
    """Convert questions and contexts with their answers, {"text": [...], "answer_start": [...]}, as in SQuAD.

    Args:
        task: The task.
        table: Its columns of questions and contexts, already checked, and of answers.

    Returns:
        The examples; labels: 1 where a question has an answer, else 0.

    Raises:
        AutorankError: Answers have another form, an answer is not in the context at its start, or a question has no
            answer although the task's questions all have one.
    """
    name, contexts, answers = task.label, table[task.text[1]], table[task.label]
    malformed = [i for i, value in enumerate(answers) if not _well_formed(value)]
    if malformed:
        raise AutorankError(
            f"Column {name!r} of {table.source} must hold {{'text': [...], 'answer_start': [...]}}, with a start for "
            f"each text, but it has {str(answers[malformed[0]])[:80]!r} in {table.rows(malformed)}. "
            "Correct these rows. csv cannot hold answers: use jsonl or parquet."
        )
    interned: dict[str, str] = {}  # a context with several questions is stored once
    references = [
        Reference(interned.setdefault(context, context), list(value["text"]), list(map(int, value["answer_start"])))
        for context, value in zip(contexts, answers, strict=True)
    ]
    misplaced = [i for i, reference in enumerate(references) if not _in_context(reference)]
    if misplaced:
        first = references[misplaced[0]]
        raise AutorankError(
            f"Column {name!r} of {table.source} has answers that are not in the context at answer_start (in "
            f"characters, from 0): {table.rows(misplaced)}, the first with {first.answers} at "
            f"{first.starts}. Correct these rows or remove them."
        )
    unanswered = [i for i, reference in enumerate(references) if not reference.answers]
    if unanswered and not task.unanswerable:
        raise AutorankError(
            f"Column {name!r} of {table.source} has no answer in {table.rows(unanswered)}. "
            f"Every question of task {task.name!r} has an answer; use --task squad_v2 for questions without."
        )
    labels = np.array([len(reference.answers) > 0 for reference in references], np.int64)
    return Examples((table[task.text[0]], [reference.context for reference in references]), labels, references)


def _well_formed(answers: Any) -> bool:
    """Whether the value is {"text": [...], "answer_start": [...]}."""
    if not isinstance(answers, dict):
        return False
    texts, starts = answers.get("text"), answers.get("answer_start")
    return (
        isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
    )  # fmt: skip


def _in_context(reference: Reference) -> bool:
    """Whether no answer is blank and each is in the context at its start."""
    return all(
        text.strip() and start >= 0 and reference.context.startswith(text, start)
        for text, start in zip(reference.answers, reference.starts, strict=True)
    )
