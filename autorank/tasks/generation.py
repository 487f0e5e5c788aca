"""Text-to-text tasks: the named ones, the user's own, and how their columns become prompts and completions.

Models are LoRA-drop's (arXiv 2402.07721, section 4.1), as are the scores. Epochs and batch size of E2E and DART: LoRA
(arXiv 2106.09685, table 11, GPT-2). The others, and all prompts, are ours: the paper gives none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import OWN, Examples, rows
from autorank.tasks.definition import Task
from autorank.tasks.metrics.text import answer

Columns = Mapping[str, Sequence[Any]]

MODEL = "meta-llama/Llama-2-7b-hf"
EVALUATED = 200  # prompts an evaluation, where nothing else is asked for (ours): generation takes its time


def _named(
    name: str, prompt: str, completion: str, metrics: tuple[str, ...], template: str, hub: tuple[str, str] | None,
    batch_size: int, epochs: int, source: str, **others: Any,
) -> Task:  # fmt: skip
    return Task(
        name, "generation", (prompt,), completion, (), metrics, hub=hub, model=MODEL, epochs=epochs,
        batch_size=batch_size, template=template, eval_examples=EVALUATED, source=source, **others,
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


def own(name: str, prompt: str, completion: str) -> Task:
    """The definition of the user's own text-to-text task."""
    metrics = ("rougeL", "exact_match", "bleu")
    return Task(
        name, "generation", (prompt,), completion, (), metrics, eval_examples=EVALUATED, model=MODEL, epochs=3,
        source=OWN,
    )  # fmt: skip


def pairs(task: Task, columns: Columns, where: str) -> Examples:
    """The columns of `where` as prompts and completions; labels: which prompt it is, equal for equal prompts.

    A prompt that is a list of triples is written out, and a row with several completions (DART) makes as many examples.

    Raises:
        AutorankError: there are no rows, or a prompt or completion is null, no text, empty or without an answer; all
            of them at once.
    """
    given = list(zip(columns[task.text[0]], columns[task.label], strict=True))
    if not given:
        raise AutorankError(f"{where} has no rows. Give a file with at least two prompts, with their completions.")
    wrong: dict[str, list[int]] = defaultdict(list)
    prompts, completions = [], []
    for i, (asked, answered) in enumerate(given):
        prompt, texts = _prompt(asked), _completions(answered)
        for problem in _problems(task, asked, prompt, texts):
            wrong[problem].append(i)
        if not wrong:
            prompts += [task.template.format(prompt)] * len(texts)
            completions += texts
    if wrong:
        listed = "\n".join(f"  {problem}: {rows(found)} ({len(found)} in all)" for problem, found in wrong.items())
        raise AutorankError(f"{where} has rows of no use (counted from 1):\n{listed}\nMend them or take them out.")
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    return Examples((prompts, completions), np.array(which, np.int64), completions)


def _problems(task: Task, asked: Any, prompt: str | None, texts: list[Any]) -> Iterator[str]:
    """What is wrong with a row."""
    if prompt is None:
        yield f"{task.text[0]!r} is {'null' if asked is None else 'no text'}"
    if not all(isinstance(text, str) for text in texts):
        yield f"{task.label!r} is {'null' if None in texts else 'no text'}"
    elif not texts or not all(text.strip() for text in texts):
        yield f"{task.label!r} is empty"
    elif task.metrics[0] == "exact_answer" and not all(map(answer, texts)):
        yield f"{task.label!r} has no answer after '####'"


def _prompt(asked: Any) -> str | None:
    """A text as it is; triples as `subject : relation : object`, a line each; None for anything else."""
    if isinstance(asked, str):
        return asked
    if isinstance(asked, list) and all(isinstance(part, list) for part in asked):
        return "\n".join(" : ".join(map(str, triple)) for triple in asked)
    return None


def _completions(answered: Any) -> list[Any]:
    """The completions of a row: one, or those of DART's annotations, {text: [...]} or [{text: ...}, ...]."""
    if isinstance(answered, dict):
        return list(answered.get("text") or [])
    if isinstance(answered, list):
        return [one.get("text") if isinstance(one, dict) else one for one in answered]
    return [answered]
