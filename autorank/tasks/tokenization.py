"""Tokenized splits, cached as memory-mapped Arrow files by content, tokenizer and length."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autorank import cache
from autorank.errors import AutorankError
from autorank.modeling.loading.hub_access import hub_access
from autorank.modeling.loading.remote_code import trusted, trusting
from autorank.spec import TaskSpec
from autorank.tasks import registry
from autorank.tasks.data import arrow
from autorank.tasks.data.pairs import Pairs
from autorank.tasks.data.texts import TOKENIZER_BATCH
from autorank.tasks.definition import Task, TaskData
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.tokenized import Split, Tokenization

logger = logging.getLogger(__name__)
FORMAT = 3  # version of the cached files; increase it to invalidate them
SUBSET_SEED = 0


def load(spec: TaskSpec, model: str) -> TaskData:
    """Load the splits of a task, tokenized for a model.

    Texts are truncated to the task's length or that of the tokenizer or of the model, whichever is least. Splits are
    cached in the directory `tokens` of the cache, if pyarrow is installed. `max_train_examples` and
    `max_eval_examples` (of each evaluated split; by default the task's `eval_examples`, unless the spec is `final`)
    select examples after a shuffle with a fixed seed. `tune_split` of the remaining training examples is held out
    and, unless the spec is `final`, evaluated instead of the validation splits. If a whole split is in the cache,
    all selections use it; otherwise only the selected examples are tokenized (for pairs, the whole split).

    Args:
        spec: The options that choose the task.
        model: Directory or name of the base model on the Hub.

    Returns:
        The task with its splits.

    Raises:
        AutorankError: The task, its data or the tokenizer is missing or unusable, there are too few examples for
            `tune_split`, or the cache is not writable.
    """
    task, train, validation = registry.read(spec)
    chosen = shuffled(len(train), spec.max_train_examples)
    tuning = np.empty(0, np.int64)
    if spec.tune_split:
        tuning = task.kind.tune_part(task, train.labels[chosen], spec.tune_split)
    with trusting(spec.trust_remote_code):
        tokenizer, pad_id, vocabulary = _limited_tokenizer(task, spec, model)
        tokenization = task.kind.tokenization(task, spec, model, tokenizer)
    settings = f"{FORMAT} {tokenizer_digest(tokenizer)} {tokenization.tag}"
    sources = {"train": train, **validation}
    keys = {name: hashlib.sha256(f"{settings} {part.digest}".encode()).hexdigest() for name, part in sources.items()}
    used = _subset(keys["train"], train, tokenization, chosen)
    limit = spec.max_eval_examples or (None if spec.final else task.eval_examples)
    if len(tuning) and not spec.final:
        evaluated = {"tune": _evaluated(used.take(tuning), limit)}
    else:
        evaluated = _validation_splits(validation, keys, tokenization, limit)
    for split in (used, *evaluated.values()):
        _check_embedded(split, pad_id, vocabulary, model, tokenizer)
    training = used.take(np.delete(np.arange(len(chosen)), tuning))
    notes = dict.fromkeys(note for source in sources.values() for note in source.notes)
    return TaskData(
        task, training, evaluated, _digest(task, spec, settings, sources, keys, tuning), pad_id,
        tokenizer if task.kind.head.generates else None, tokenization.length, tokenization.ends,
        task.kind.describe(task, train), tuple(notes),
    )  # fmt: skip


def _limited_tokenizer(task: Task, spec: TaskSpec, model: str) -> tuple[Any, int, int | None]:
    """The tokenizer, limited to the lowest length; the padding token; the size of the embedding table, if known."""
    from autorank.modeling.text_limits import text_limits

    tokenizer = load_tokenizer(model)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad_id is None:
        raise AutorankError(f"The tokenizer of {model!r} has no padding token and no end token. Add one to it.")
    limit = min(spec.max_length or task.max_length, tokenizer.model_max_length)
    limits = text_limits(model, task.outputs, task.kind.head, limit)
    tokenizer.model_max_length = limits.length
    return tokenizer, pad_id if limits.padding is None else limits.padding, limits.vocabulary


def _digest(
    task: Task, spec: TaskSpec, settings: str, sources: Mapping[str, Examples], keys: Mapping[str, str],
    tuning: np.ndarray,
) -> str:  # fmt: skip
    """The digest of `TaskData`: of the task, the tokenization, the content of all splits, and the selected examples."""
    digest = hashlib.sha256(f"{task.kind} {task.label_names} {settings}".encode())
    for name, source in sources.items():
        limit = spec.max_train_examples if name == "train" else spec.max_eval_examples
        count = len(source) if limit is None else min(limit, len(source))
        digest.update(f"{name} {keys[name]} {count}".encode())
    digest.update(tuning.tobytes())
    return digest.hexdigest()


def _validation_splits(
    validation: Mapping[str, Examples], keys: Mapping[str, str], tokenization: Tokenization, limit: int | None
) -> dict[str, Split]:
    """The evaluated examples of each validation split."""
    evaluated = {}
    for name, examples in validation.items():
        chosen = shuffled(len(examples), None if tokenization.whole else limit)
        evaluated[name] = _evaluated(_subset(keys[name], examples, tokenization, chosen), limit)
    return evaluated


def _evaluated(split: Split, limit: int | None) -> Split:
    """The evaluated examples of a split, at most `limit`; of pairs, prompts are counted, with all their completions."""
    if isinstance(split, Pairs):
        prompts = np.unique(split.labels)
        return split.take(np.flatnonzero(np.isin(split.labels, prompts[shuffled(len(prompts), limit)])))
    return split.take(shuffled(split.examples, limit))


def _check_embedded(split: Split, pad_id: int, vocabulary: int | None, model: str, tokenizer: Any) -> None:
    """Check that the model has an embedding for every token of a split."""
    tokens = [values.max(initial=pad_id) for values in (split.ids, getattr(split, "target_ids", split.ids))]
    largest = int(max(tokens))
    if vocabulary is not None and largest >= vocabulary:
        raise AutorankError(
            f"Model {model!r} has no embedding for token {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}) of "
            f"its tokenizer: its embedding table has {vocabulary} entries. Use the tokenizer that belongs to the "
            f"model, or enlarge the table with model.resize_token_embeddings({len(tokenizer)}) and save the model."
        )


def load_tokenizer(model: str) -> Any:
    """Load the tokenizer of a model.

    Args:
        model: Directory or name on the Hub.

    Returns:
        The tokenizer.

    Raises:
        AutorankError: There is none, or the Hub cannot be reached.
    """
    from transformers import AutoTokenizer

    from autorank.modeling.loading.pretrained_checks import refuse_adapter

    with hub_access("model", model):
        refuse_adapter(model)
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trusted())
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers creates an empty one if there is none
        raise AutorankError(
            f"Model {model!r} has no tokenizer: the vocabulary is empty. Add the files written by "
            "tokenizer.save_pretrained to its directory."
        )
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of everything that determines the tokens of a text; equal for copies in different directories."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = (type(tokenizer).__name__, content, tokenizer.truncation_side, tokenizer.model_input_names)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def shuffled(total: int, limit: int | None) -> np.ndarray:
    """Select examples after a shuffle with a fixed seed.

    Args:
        total: Number of examples.
        limit: Number of examples to select. None: all.

    Returns:
        Indices in ascending order, int64, `limit` or `total` if there are no more.
    """
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(total)[:limit])


def _subset(key: str, examples: Examples, tokenization: Tokenization, chosen: np.ndarray) -> Split:
    """The examples at these ascending indices. Only these are tokenized, unless the whole split is cached or needed."""
    if tokenization.whole or len(chosen) == len(examples) or (_caches() and _cache_file(key).exists()):
        return _cached(key, examples, tokenization).take(chosen)
    return _cached(hashlib.sha256(key.encode() + chosen.tobytes()).hexdigest(), examples.take(chosen), tokenization)


def _cached(key: str, examples: Examples, tokenization: Tokenization) -> Split:
    """Read a split from the cache; tokenize it first if the file is missing or broken."""
    path = _cache_file(key)
    split = arrow.read(path, tokenization.split) if _caches() else None
    if split is None:
        if len(examples) > TOKENIZER_BATCH:
            logger.info("tokenizing %s examples; the result is cached", f"{len(examples):,}")
        split = tokenization.of(examples)
        if not _caches():
            return split
        arrow.write(split, path)
        split = arrow.read(path, tokenization.split)
        if split is None:
            raise AutorankError(f"Cannot read {path} after writing it. Set AUTORANK_CACHE to another directory.")
    return replace(split, references=examples.references)


def _cache_file(key: str) -> Path:
    return cache.folder() / "tokens" / f"{key}.arrow"


def _caches() -> bool:
    """Whether pyarrow is installed, which reads and writes the files."""
    return importlib.util.find_spec("pyarrow") is not None
