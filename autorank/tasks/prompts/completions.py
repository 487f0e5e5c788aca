"""Converts the columns of text-to-text tasks to prompts and completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.metrics.text import final_answer
from autorank.tasks.prompts import conversation
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table, is_unicode, rows


def to_examples(task: Task, table: Table) -> Examples:
    """Convert the columns of a text-to-text task to prompts and completions, or to conversations.

    Several columns of prompts are joined, with an empty line between texts that are not blank. A prompt that is a list
    of triples becomes text. A row with several completions (DART) becomes as many examples.

    Args:
        task: The task.
        table: The columns of prompts and the column of completions, or the column of conversations.

    Returns:
        The examples; labels: the number of the prompt, equal for equal prompts.

    Raises:
        AutorankError: There are no rows, or a prompt or completion is null, not text, empty or without an answer. The
            message lists all such rows.
    """
    if not task.label:
        return _conversations(task, table)
    columns = [table[name] for name in task.text]
    pairs = list(zip(columns[0] if len(columns) == 1 else map(_joined, *columns), table[task.label], strict=True))
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
    _check(table, wrong)
    return Examples((prompts, completions), _numbers(prompts), completions)


def _conversations(task: Task, table: Table) -> Examples:
    """The conversations of a column, as JSON; labels: the number of all that comes before the last turn."""
    missing = [None] * len(table)
    tools, systems = (table.columns.get(name, missing) for name in (conversation.TOOLS, conversation.SYSTEM))
    wrong: dict[str, list[int]] = defaultdict(list)
    conversations = []
    for i, (value, *extra) in enumerate(zip(table[task.text[0]], tools, systems, strict=True)):
        try:
            conversations.append(conversation.read(value, *extra))
        except conversation.InvalidConversation as error:
            wrong[f"{task.text[0]!r} {error}"].append(i)
    _check(table, wrong)
    labels = _numbers([c.context for c in conversations])
    return Examples(([c.dumps() for c in conversations],), labels, [c.reference for c in conversations])


def _check(table: Table, wrong: Mapping[str, list[int]]) -> None:
    """Raise if there are invalid rows: problem -> row indices."""
    if wrong:
        listed = "\n".join(
            f"  {problem}: {rows(indices, table.files)} ({len(indices)} in all)" for problem, indices in wrong.items()
        )
        raise AutorankError(
            f"{table.source} has invalid rows (counted from 1):\n{listed}\nCorrect these rows or remove them."
        )


def _numbers(texts: list[str]) -> np.ndarray:
    """The number of each text, equal for equal texts: int64, `examples`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def _joined(first: Any, *others: Any) -> Any:
    """The texts that are not blank, with an empty line between them; the first one if it is not text."""
    if not isinstance(first, str) or not all(text is None or isinstance(text, str) for text in others):
        return None if isinstance(first, str) else first
    return "\n\n".join(text for text in (first, *others) if text and text.strip())


def _problems(task: Task, raw_prompt: Any, prompt: str | None, texts: list[Any]) -> Iterator[str]:
    """What is wrong with a row."""
    if prompt is None:
        yield f"{','.join(task.text)!r} is {'null' if raw_prompt is None else 'not text'}"
    elif not is_unicode(prompt):
        yield f"{','.join(task.text)!r} has half a character (a lone surrogate)"
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
