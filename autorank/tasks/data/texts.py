"""Tokenization of examples of one or two texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from autorank.errors import AutorankError, counted
from autorank.spec import TaskSpec
from autorank.tasks.definition import Task
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.tokenized import Split, Tokenization, flat

TOKENIZER_BATCH = 10_000  # examples tokenized at a time


def tokenization(task: Task, spec: TaskSpec, tokenizer: Any) -> Tokenization:
    """Tokenize examples as they are, truncated to the maximum length.

    Args:
        task: The task.
        spec: The user's options for the task.
        tokenizer: The tokenizer.

    Returns:
        The tokenization.

    Raises:
        AutorankError: The length leaves no token for a text.
    """
    length = max_length(task, spec, tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=len(task.text) > 1)
    if length < special + len(task.text):
        raise AutorankError(
            f"--max-length {length} is too short: the tokenizer adds {counted(special, 'special token')} to "
            f"{'a pair of texts' if len(task.text) > 1 else 'a text'}, and each text needs at least one token. Use "
            f"--max-length {special + len(task.text)} or more."
        )
    return Tokenization(lambda examples: tokenize(examples, tokenizer, length), str(length), length)


def max_length(task: Task, spec: TaskSpec, tokenizer: Any) -> int:
    """Return the number of tokens to which texts are truncated.

    Args:
        task: The task.
        spec: The user's options for the task.
        tokenizer: The tokenizer; its maximum length is that of the model, see `tokenization.load`.

    Returns:
        Tokens.
    """
    return int(min(spec.max_length or task.max_length, tokenizer.model_max_length))


def tokenize(examples: Examples, tokenizer: Any, length: int) -> Split:
    """Tokenize examples of one or two texts, with the model's special tokens.

    A text without tokens (an empty one, in decoders) becomes one end token.

    Args:
        examples: The examples.
        tokenizer: The tokenizer.
        length: Maximum number of tokens of an example.

    Returns:
        The tokenized split.
    """
    ids, type_ids, lengths, truncated = [], [], [], []
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.pad_token_id
    for start in range(0, len(examples), TOKENIZER_BATCH):
        texts = [list(column[start : start + TOKENIZER_BATCH]) for column in examples.texts]
        encoding = tokenizer(*texts, truncation=True, max_length=length, return_attention_mask=False, verbose=False)
        for tokens in encoding["input_ids"]:
            if not tokens:
                tokens.append(end)
        lengths += list(map(len, encoding["input_ids"]))
        ids.append(flat(encoding["input_ids"]))
        truncated += [bool(text.overflowing) for text in encoding.encodings or ()]  # unknown for slow tokenizers
        if "token_type_ids" in encoding:
            type_ids.append(flat([types or [0] for types in encoding["token_type_ids"]], np.int8))
    offsets = np.zeros(len(examples) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    types = np.concatenate(type_ids) if type_ids else None
    flags = np.array(truncated, np.int8) if len(truncated) == len(examples) else None
    return Split(np.concatenate(ids), types, offsets, examples.labels, truncated=flags)
