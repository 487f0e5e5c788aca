"""Tokenised splits: made once for each content, tokenizer and length, kept as memory-mapped Arrow files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autorank import cache
from autorank.errors import AutorankError
from autorank.modeling.hub_access import hub_access
from autorank.modeling.remote_code import trusted, trusting
from autorank.spec import TaskSpec
from autorank.tasks import registry
from autorank.tasks.data import arrow, windows
from autorank.tasks.data.examples import Examples
from autorank.tasks.data.pairs import Pairs
from autorank.tasks.data.stratified import held_out
from autorank.tasks.definition import Split, Task, TaskData
from autorank.tasks.prompting import prompting

logger = logging.getLogger(__name__)
FORMAT = 2  # of the cached files; another number makes them anew
CHUNK = 10_000  # examples tokenised at a time
SUBSET_SEED = 0
NO_LIMIT = 10**9  # transformers says 10**30 where a tokenizer does not know how much its model can take


def load(spec: TaskSpec, model: str) -> TaskData:
    """The task's splits, tokenised for `model` (a folder or a name on the Hub).

    Texts are cut at the task's length or the model's own, whichever is less. Cached in `tokens` of the
    cache folder, where pyarrow is installed. `max_train_examples` and `max_eval_examples` (of each split that is
    evaluated; the task's `eval_examples` by default, unless the spec is `final`) take examples after a shuffle with a
    fixed seed; of what is left for training, `tune_split` is held
    out and, unless the spec is `final`, evaluated in place of the validation splits. A split that is in the cache as a
    whole serves all of these; of one that is not, no more is tokenised than is asked for (of pairs all is).

    Raises:
        AutorankError: the task, its data or the tokenizer is missing or of no use, there are too few examples for
            `tune_split`, or the cache is not writable.
    """
    task, train, validation = registry.read(spec)
    chosen = shuffled(len(train), spec.max_train_examples)
    held = held_out(task, train.labels[chosen], spec.tune_split)
    with trusting(spec.trust_remote_code):
        tokenizer = load_tokenizer(model)
        made = tokenised(task, spec, model, tokenizer)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad_id is None:
        raise AutorankError(f"The tokenizer of {model!r} has no padding token and no end token. Give it one.")
    maker = f"{FORMAT} {tokenizer_digest(tokenizer)} {made.tag}"
    digest = hashlib.sha256(f"{task.kind} {task.label_names} {maker}".encode())
    keys: dict[str, str] = {}
    rows = {"train": chosen} | {name: shuffled(len(one), spec.max_eval_examples) for name, one in validation.items()}
    for name, examples in {"train": train, **validation}.items():
        keys[name] = hashlib.sha256(f"{maker} {examples.digest}".encode()).hexdigest()
        digest.update(f"{name} {keys[name]} {len(rows[name])}".encode())
    digest.update(held.tobytes())
    used = _part(keys["train"], train, made, chosen)
    limit = spec.max_eval_examples or (None if spec.final else task.eval_examples)
    if len(held) and not spec.final:
        evaluated = {"tune": _evaluated(used.take(held), limit)}
    else:
        evaluated = {
            name: _evaluated(_part(keys[name], one, made, shuffled(len(one), None if made.whole else limit)), limit)
            for name, one in validation.items()
        }
    kept = used.take(np.delete(np.arange(len(chosen)), held))
    speaks = tokenizer if task.kind == "generation" else None
    return TaskData(task, kept, evaluated, digest.hexdigest(), pad_id, speaks, made.length)


def _evaluated(split: Split, limit: int | None) -> Split:
    """What is evaluated of a split: at most `limit` examples; of pairs, each prompt is one."""
    whole = split.grouped() if isinstance(split, Pairs) else split
    return whole.take(shuffled(whole.examples, limit))


@dataclass(frozen=True)
class Tokenised:
    """How a task's examples become token ids: the class of its splits, the function, what names its settings, and the
    tokens at which texts are cut. `whole`: whether an example depends on the others of its split."""

    kind: type[Split]
    of: Callable[[Examples], Split]
    tag: str
    length: int
    whole: bool = False


def tokenised(task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenised:
    """How `task` is tokenised for `model`."""
    if task.kind == "generation":
        how = prompting(task, spec, model, tokenizer)
        return Tokenised(how.kind, how.split, how.tag, how.length, whole=True)  # prompts have what completions leave
    length = min(spec.max_length or task.max_length, tokenizer.model_max_length)
    if task.kind == "span":
        windows.check(model, tokenizer, length)
        return Tokenised(
            windows.Windows, lambda examples: windows.tokenise(examples, tokenizer, length), windows.tag(length), length
        )
    return Tokenised(Split, lambda examples: tokenise(examples, tokenizer, length), str(length), length)


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer, from a folder or the Hub.

    Raises:
        AutorankError: there is none, or it is out of reach.
    """
    from transformers import AutoConfig, AutoTokenizer

    with hub_access("model", model):
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trusted())
        if tokenizer.model_max_length > NO_LIMIT:
            config = AutoConfig.from_pretrained(model, trust_remote_code=trusted())
            tokenizer.model_max_length = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up for none
        raise AutorankError(
            f"Model {model!r} has no tokenizer: the vocabulary is empty. Put the tokenizer's files with the "
            "model's, as tokenizer.save_pretrained writes them."
        )
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of what decides what the tokenizer makes of a text: equal for copies in different folders."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = (type(tokenizer).__name__, content, tokenizer.truncation_side, tokenizer.model_input_names)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def tokenise(examples: Examples, tokenizer: Any, length: int) -> Split:
    """All examples as token ids with the model's special tokens, at most `length` tokens each."""
    ids, type_ids, lengths, cut = [], [], [], []
    for start in range(0, len(examples), CHUNK):
        texts = [list(column[start : start + CHUNK]) for column in examples.texts]
        made = tokenizer(*texts, truncation=True, max_length=length, return_attention_mask=False, verbose=False)
        lengths += [len(one) for one in made["input_ids"]]
        ids.append(_flat(made["input_ids"], np.int32))
        cut += [bool(one.overflowing) for one in made.encodings or ()]  # which slow tokenizers do not tell
        if "token_type_ids" in made:
            type_ids.append(_flat(made["token_type_ids"], np.int8))
    offsets = np.zeros(len(examples) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    types = np.concatenate(type_ids) if type_ids else None
    known = np.array(cut, np.int8) if len(cut) == len(examples) else None
    return Split(np.concatenate(ids), types, offsets, examples.labels, cut=known)


def shuffled(total: int, limit: int | None) -> np.ndarray:
    """Sorted indices of `limit` examples, the first of a shuffle with a fixed seed; of all if there are no more."""
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(total)[:limit])


def _flat(lists: list[list[int]], dtype: type) -> np.ndarray:
    total = sum(map(len, lists))
    return np.fromiter((number for one in lists for number in one), dtype, total)


def _part(key: str, examples: Examples, made: Tokenised, chosen: np.ndarray) -> Split:
    """The examples at these rising indices. Where the whole split is in no file yet, only they are tokenised."""
    if made.whole or len(chosen) == len(examples) or (_caches() and _place(key).exists()):
        return _cached(key, examples, made).take(chosen)
    return _cached(hashlib.sha256(key.encode() + chosen.tobytes()).hexdigest(), examples.take(chosen), made)


def _cached(key: str, examples: Examples, made: Tokenised) -> Split:
    """The split from its file, which is made where it is missing or broken."""
    path = _place(key)
    found = arrow.read(path, made.kind) if _caches() else None
    if found is None:
        if len(examples) > CHUNK:
            logger.info("tokenising %s examples, which are kept for the next time", f"{len(examples):,}")
        split = made.of(examples)
        if not _caches():
            return split
        arrow.write(split, path)
        found = arrow.read(path, made.kind)
        if found is None:
            raise AutorankError(f"{path} cannot be read back. Set AUTORANK_CACHE to another folder.")
    return replace(found, references=examples.references)


def _place(key: str) -> Path:
    return cache.folder() / "tokens" / f"{key}.arrow"


def _caches() -> bool:
    """Whether there is what reads and writes the files."""
    return importlib.util.find_spec("pyarrow") is not None
