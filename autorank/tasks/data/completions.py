"""Converts the columns of text-to-text tasks to prompts and completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.examples import Examples
from autorank.tasks.metrics.text import final_answer
from autorank.tasks.table import Table, is_unicode, rows


def to_examples(task: Task, table: Table) -> Examples:
    """Convert the columns of a text-to-text task to prompts and completions.

    A prompt that is a list of triples becomes text. A row with several completions (DART) becomes as many examples.

    Args:
        task: The task.
        table: The column of prompts and the column of completions.

    Returns:
        The examples; labels: the number of the prompt, equal for equal prompts.

    Raises:
        AutorankError: There are no rows, or a prompt or completion is null, not text, empty or without an answer. The
            message lists all such rows.
    """
    pairs = list(zip(table[task.text[0]], table[task.label], strict=True))
    if not pairs:
        raise AutorankError(f"{table.source} has no rows. Use a file with at least two prompts and their completions.")
    wrong: dict[str, list[int]] = defaultdict(list)
    prompts, completions = [], []
    for i, (raw_prompt, raw_completion) in enumerate(pairs):
        prompt, texts = _prompt(raw_prompt), _completions(raw_completion)
        for problem in _problems(task, raw_prompt, prompt, texts):
            wrong[problem].append(i)
        if not wrong:
            prompts += [task.template.format(prompt)] * len(texts)
            completions += texts
    if wrong:
        listed = "\n".join(
            f"  {problem}: {rows(indices, table.files)} ({len(indices)} in all)" for problem, indices in wrong.items()
        )
        raise AutorankError(
            f"{table.source} has invalid rows (counted from 1):\n{listed}\nCorrect these rows or remove them."
        )
    numbers: dict[str, int] = {}
    labels = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    return Examples((prompts, completions), np.array(labels, np.int64), completions)


def _problems(task: Task, raw_prompt: Any, prompt: str | None, texts: list[Any]) -> Iterator[str]:
    """What is wrong with a row."""
    if prompt is None:
        yield f"{task.text[0]!r} is {'null' if raw_prompt is None else 'not text'}"
    elif not is_unicode(prompt):
        yield f"{task.text[0]!r} has half a character (a lone surrogate)"
    if not all(isinstance(text, str) for text in texts):
        yield f"{task.label!r} is {'null' if None in texts else 'not text'}"
    elif not texts or not all(text.strip() for text in texts):
        yield f"{task.label!r} is empty"
    elif not all(map(is_unicode, texts)):
        yield f"{task.label!r} has half a character (a lone surrogate)"
    elif task.metrics[0] == "exact_answer" and not all(map(final_answer, texts)):
        yield f"{task.label!r} has no answer after '####'"


def _prompt(value: Any) -> str | None:
    """A text unchanged; triples as lines of `subject : relation : object`; None for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, list) for part in value):
        return "\n".join(" : ".join(map(str, triple)) for triple in value)
    return None


def _completions(value: Any) -> list[Any]:
    """The completions of a row: a single text, or DART's annotations, {text: [...]} or [{text: ...}, ...]."""
    if isinstance(value, dict):
        return list(value.get("text") or [])
    if isinstance(value, list):
        return [annotation.get("text") if isinstance(annotation, dict) else annotation for annotation in value]
    return [value]
