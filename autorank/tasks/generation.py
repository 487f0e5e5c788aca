"""Text-to-text tasks: named tasks, the user's own data, and the conversion of columns to prompts and completions.

Models and scores are LoRA-drop's (arXiv 2402.07721, section 4.1). Epochs and batch size of E2E and DART: LoRA
(arXiv 2106.09685, table 11, GPT-2). The other values and all prompts are ours: the
paper gives none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import OWN_DATA, Columns, Examples, rows
from autorank.tasks.definition import Task
from autorank.tasks.metrics.text import final_answer

MODEL = "meta-llama/Llama-2-7b-hf"
EVAL_EXAMPLES = 200  # prompts in an evaluation by default, since generation is slow (ours)


def _named(
    name: str, prompt: str, completion: str, metrics: tuple[str, ...], template: str, hub: tuple[str, str] | None,
    batch_size: int, epochs: int, source: str, **others: Any,
) -> Task:  # fmt: skip
    return Task(
        name, "generation", (prompt,), completion, (), metrics, hub=hub, model=MODEL, epochs=epochs,
        batch_size=batch_size, template=template, eval_examples=EVAL_EXAMPLES, source=source, **others,
    )  # fmt: skip


GENERATION: dict[str, Task] = {
    task.name: task
    for task in (
        _named(
            "e2e", "meaning_representation", "human_reference", ("bleu", "rougeL"),
            "Describe the restaurant in a sentence or two.\n{}\nDescription:", None, 8, 5,
            "E2E NLG challenge (arXiv 1706.09254); training as in LoRA (arXiv 2106.09685), table 11",
        ),
        _named(
            "dart", "tripleset", "annotations", ("bleu", "rougeL"),
            "Put these facts (subject : relation : object) into words.\n{}\nText:", None, 8, 5,
            "DART (arXiv 2007.02871); training as in LoRA (arXiv 2106.09685), table 11",
        ),
        _named(
            "dialogsum", "dialogue", "summary", ("rouge", "rouge1", "rouge2", "rougeL"),
            "Summarise the dialogue.\n{}\nSummary:", ("knkarthick/dialogsum", "default"), 16, 3,
            "DialogSum (arXiv 2105.06762); epochs and batch size are ours", max_length=1024,
        ),
        _named(
            "gsm8k", "question", "answer", ("exact_answer",), "Question: {}\nAnswer:", ("openai/gsm8k", "main"), 16, 3,
            "GSM8K (arXiv 2110.14168); epochs and batch size are ours", validation=(), max_length=1024,
        ),
    )
}  # fmt: skip


def own_task(name: str, prompt: str, completion: str) -> Task:
    """Define a text-to-text task for the user's own data.

    Args:
        name: The task's name.
        prompt: The column of prompts.
        completion: The column of completions.

    Returns:
        The task.
    """
    metrics = ("likelihood", "token_accuracy", "rougeL", "exact_match", "bleu")
    return Task(
        name, "generation", (prompt,), completion, (), metrics, eval_examples=EVAL_EXAMPLES, model=MODEL, epochs=3,
        source=OWN_DATA,
    )  # fmt: skip


def to_examples(task: Task, columns: Columns, source: str) -> Examples:
    """Convert the columns of a text-to-text task to prompts and completions.

    A prompt that is a list of triples becomes text. A row with several completions (DART) becomes as many examples.

    Args:
        task: The task.
        columns: The column of prompts and the column of completions.
        source: Where the columns come from (a file, or a split on the Hub), for messages.

    Returns:
        The examples; labels: the number of the prompt, equal for equal prompts.

    Raises:
        AutorankError: There are no rows, or a prompt or completion is null, not text, empty or without an answer. The
            message lists all such rows.
    """
    pairs = list(zip(columns[task.text[0]], columns[task.label], strict=True))
    if not pairs:
        raise AutorankError(f"{source} has no rows. Use a file with at least two prompts and their completions.")
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
            f"  {problem}: {rows(indices)} ({len(indices)} in all)" for problem, indices in wrong.items()
        )
        raise AutorankError(
            f"{source} has invalid rows (counted from 1):\n{listed}\nCorrect these rows or remove them."
        )
    numbers: dict[str, int] = {}
    labels = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    return Examples((prompts, completions), np.array(labels, np.int64), completions)


def _problems(task: Task, raw_prompt: Any, prompt: str | None, texts: list[Any]) -> Iterator[str]:
    """What is wrong with a row."""
    if prompt is None:
        yield f"{task.text[0]!r} is {'null' if raw_prompt is None else 'not text'}"
    if not all(isinstance(text, str) for text in texts):
        yield f"{task.label!r} is {'null' if None in texts else 'not text'}"
    elif not texts or not all(text.strip() for text in texts):
        yield f"{task.label!r} is empty"
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
