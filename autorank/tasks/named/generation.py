"""Text-to-text tasks: the named ones and the user's own.

Models and scores of named tasks are LoRA-drop's (arXiv 2402.07721, section 4.1). Epochs and batch size of E2E and DART:
LoRA (arXiv 2106.09685, table 11, GPT-2). The other values and all prompts are ours: the paper gives none.
"""

from __future__ import annotations

from typing import Any

from autorank.tasks.definition import Task
from autorank.tasks.kinds import generation
from autorank.tasks.splits.examples import OWN_DATA

MODEL = "meta-llama/Llama-2-7b-hf"
EVAL_EXAMPLES = 200  # prompts in an evaluation by default, since generation is slow (ours)
FORWARD_EXAMPLES = 1_000  # where evaluations are forward passes (ours)
OWN_METRICS = ("likelihood", "token_accuracy", "rougeL", "exact_match", "bleu")
# Model for the user's own data: small, open without a gate, multilingual, and its tokenizer has a chat template.
OWN_MODEL, OWN_MODEL_LICENSE = "Qwen/Qwen3-0.6B-Base", "Apache-2.0"


def _named(
    name: str, prompt: str, completion: str, metrics: tuple[str, ...], template: str, hub: tuple[str, str] | None,
    batch_size: int, epochs: int, source: str, **fields: Any,
) -> Task:  # fmt: skip
    return Task(
        name, generation.GENERATION, (prompt,), completion, (), metrics, hub=hub, model=MODEL, epochs=epochs,
        batch_size=batch_size, template=template, source=source, **fields,
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


def own_task(name: str, prompt: tuple[str, ...], completion: str) -> Task:
    """Define a text-to-text task for the user's own data.

    Args:
        name: The task's name.
        prompt: The columns of prompts, or of conversations.
        completion: The column of completions; empty for conversations.

    Returns:
        The task.
    """
    return Task(
        name, generation.GENERATION, prompt, completion, (), OWN_METRICS, model=OWN_MODEL,
        epochs=3, max_length=1024, source=OWN_DATA,
    )  # fmt: skip
