"""Converts the columns of text-to-text tasks to prompts and completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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

    Prompts and completions that are lists of messages become conversations, in which the prompt is not trained.
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
    if not len(table):
        raise AutorankError(f"{table.source} has no rows. Use a file with at least two prompts and their completions.")
    if not task.label:
        return _conversations(table, task.text[0], table[task.text[0]])
    if len(task.text) == 1 and any(map(conversation.are_messages, table[task.label])):
        values = list(map(conversation.joined, table[task.text[0]], table[task.label]))
        return _conversations(table, f"{task.text[0]},{task.label}", values)
    columns = [table[name] for name in task.text]
    pairs = list(zip(columns[0] if len(columns) == 1 else map(_joined, *columns), table[task.label], strict=True))
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


def _conversations(table: Table, name: str, values: Sequence[Any]) -> Examples:
    """Conversations as JSON; labels: the number of all that comes before the last turn. `name` is for messages."""
    missing = [None] * len(table)
    tools, systems = (table.columns.get(name, missing) for name in (conversation.TOOLS, conversation.SYSTEM))
    wrong: dict[str, list[int]] = defaultdict(list)
    texts, contexts, references = [], [], []
    for i, (value, *extra) in enumerate(zip(values, tools, systems, strict=True)):
        try:
            parsed = conversation.read(value, *extra)
            texts.append(parsed.dumps())
            contexts.append(parsed.context)
            references.append(parsed.reference)
        except conversation.InvalidConversation as error:
            wrong[f"{name!r} {error}"].append(i)
    _check(table, wrong)
    return Examples((texts,), _numbers(contexts), references)


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
        yield f"{','.join(task.text)!r} contains an unpaired surrogate"
    if not all(isinstance(text, str) for text in texts):
        yield f"{task.label!r} is {'null' if None in texts else 'not text'}"
    elif not texts or not all(text.strip() for text in texts):
        yield f"{task.label!r} is empty"
    elif not all(map(is_unicode, texts)):
        yield f"{task.label!r} contains an unpaired surrogate"
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
    """The completions of a row: texts, or DART's annotations, {text: [...]} or [{text: ...}, ...]."""
    if isinstance(value, list):
        return [item["text"] if isinstance(item, dict) and "text" in item else item for item in value]
    if isinstance(value, dict) and "text" in value:
        return value["text"] if isinstance(value["text"], list) else [value["text"]]
    return [value]
