"""Tokenization of prompts and completions without a chat template: special tokens, and truncation of long texts.

A sequence has a maximum number of tokens: the task's `max_length`, or the limit of the tokenizer or of the model's
positions. Completions keep at most half of it (in an encoder-decoder all of it, since the decoder has a sequence of its
own) and are truncated at the end. Prompts keep what the longest completion of their split leaves, so a completion of
that length can still be generated. Prompts are truncated at the beginning, because the question usually comes last.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.modeling.loading.hub_access import hub_access
from autorank.modeling.loading.remote_code import trusted
from autorank.spec import TaskSpec
from autorank.tasks.data.pairs import EncodedPairs, Pairs
from autorank.tasks.data.texts import max_length
from autorank.tasks.definition import Task
from autorank.tasks.prompts.chat_encoding import ChatEncoding
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import rows
from autorank.tasks.splits.tokenized import Tokenization, flat, offsets

Truncated = tuple[list[list[int]], list[bool]]  # token ids, and which of them were truncated
END_OF_PROMPT = "\n"  # separates prompt and completion in decoder-only models without a chat template


@dataclass(frozen=True)
class Prompting:
    """Tokenizes prompts and completions for one tokenizer and model.

    Attributes:
        tokenizer: The tokenizer.
        length: Maximum number of tokens of a sequence.
        start: First token of an encoder-decoder's decoder; None for decoder-only models.
    """

    tokenizer: Any
    length: int
    start: int | None

    @property
    def tokenization(self) -> Tokenization:
        """How examples become a tokenized split."""
        # prompts are truncated so that the longest completion of their split fits, hence `whole`
        return Tokenization(self.split, self._tag, self.length, self._class, whole=True, ends=tuple(self.ends))

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text: the end token."""
        return [self.tokenizer.eos_token_id]

    @property
    def _class(self) -> type[Pairs]:
        return Pairs if self.start is None else EncodedPairs

    @property
    def _tag(self) -> str:
        # models with one vocabulary (base and chat) can have different special tokens, above all end tokens
        digest = hashlib.sha256(f"{sorted(self.tokenizer.special_tokens_map.items())}".encode()).hexdigest()
        return f"{self.length} {digest} {self.start}"

    def check_length(self) -> None:
        """Check that a prompt and a completion have at least one token each.

        Raises:
            AutorankError: They do not.
        """
        before, after = self._frame()
        smallest = max(2, 2 * len(before) + 1) if self.start is None else len(before) + len(after) + 1
        if self.length < smallest:
            raise AutorankError(
                f"--max-length {self.length} is too short for a prompt and its completion. Use --max-length {smallest} "
                "or more."
            )

    def split(self, examples: Examples) -> Pairs:
        """Tokenize all examples of a split.

        Args:
            examples: Prompts and completions.

        Returns:
            The tokenized split.

        Raises:
            AutorankError: A prompt has no tokens, or prompts and completions are lists of messages.
        """
        if len(examples.texts) == 1:
            raise AutorankError(
                "--prompt and --completion hold lists of messages, which need a tokenizer with a chat template. Use "
                "such a model without --no-chat, or columns of texts."
            )
        prompts, completions = (list(column) for column in examples.texts)
        targets, truncated_targets = self._completions(completions)
        room = self.length - (max(map(len, targets)) if self.start is None else 0)
        ids, truncated = self._prompts(prompts, room)
        if empty := [i for i, tokens in enumerate(ids) if not tokens]:
            raise AutorankError(
                f"The tokenizer returns no tokens for the prompts in {rows(empty)}. Check that it belongs to the model."
            )
        return self._class(
            ids=flat(ids), type_ids=None, offsets=offsets(ids), labels=examples.labels,
            references=examples.references, target_ids=flat(targets), target_offsets=offsets(targets),
            truncated=np.maximum(np.array(truncated, np.int8), np.array(truncated_targets, np.int8)),
        )  # fmt: skip

    def _completions(self, texts: list[str]) -> Truncated:
        """Completions with their end tokens, and in encoder-decoders with the start token."""
        end = self.tokenizer.eos_token_id
        if self.start is None:
            max_length, before = self.length // 2, []
            all_ids = [[*ids, end] for ids in self._ids(texts)]
        else:
            max_length, before = self.length, [self.start]
            encoded = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
            all_ids = [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]
        return [before + ids[:max_length] for ids in all_ids], [len(ids) > max_length for ids in all_ids]

    def _prompts(self, texts: list[str], room: int) -> Truncated:
        """Prompts with the tokenizer's special tokens; in decoder-only models only those before the text."""
        before, after = self._frame()
        if self.start is None:
            texts, after = [text + END_OF_PROMPT for text in texts], []
        room -= len(before) + len(after)
        all_ids = self._ids(texts)
        truncated = [before + ids[max(0, len(ids) - room) :] + after for ids in all_ids]
        return truncated, [len(ids) > room for ids in all_ids]

    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        (plain,), full = self._ids(["a"]), self.tokenizer("a")["input_ids"]
        start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
        return full[:start], full[start + len(plain) :]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def prompting(task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Prompting | ChatEncoding:
    """Create the tokenization of a text-to-text task for a model.

    Args:
        task: The task.
        spec: The user's options for the task.
        model: Directory or name of the base model on the Hub.
        tokenizer: Its tokenizer.

    Returns:
        The tokenization: with the tokenizer's chat template if it has one, unless the user's options say otherwise.

    Raises:
        AutorankError: The model cannot be loaded or cannot generate text, the tokenizer has no end token, a chat
            template is needed and cannot be used, or the maximum length is too short.
    """
    from transformers import AutoConfig

    from autorank.modeling.loading.auto_model import auto_class

    with hub_access("model", model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trusted())
    auto_class(task.kind.head, config)  # raises first if the model cannot generate text
    if tokenizer.eos_token_id is None:
        raise AutorankError(
            f"The tokenizer of {model!r} has no end token, so texts would never end. Add an eos_token to it."
        )
    length = max_length(task, spec, tokenizer)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    if _uses_template(spec, model, tokenizer, encoder_decoder):
        return ChatEncoding(tokenizer, length)
    start = None
    if encoder_decoder:
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            raise AutorankError(f"The config.json of {model!r} has no decoder_start_token_id. Add it.")
    encoding = Prompting(tokenizer, length, start)
    encoding.check_length()
    return encoding


def _uses_template(spec: TaskSpec, model: str, tokenizer: Any, encoder_decoder: bool) -> bool:
    """Whether texts are rendered with the tokenizer's chat template."""
    option = "--messages" if spec.messages else "--chat"
    needed = bool(spec.chat or spec.messages)
    problem = None
    if encoder_decoder:
        problem = f"{model!r} is an encoder-decoder, which has no turns"
    elif not tokenizer.chat_template:
        problem = f"the tokenizer of {model!r} has none"
    elif not tokenizer.is_fast:
        problem = f"the tokenizer of {model!r} is not a fast one, so the positions of tokens in a text are unknown"
    if problem and needed:
        raise AutorankError(
            f"{option} needs a chat template, but {problem}. Use another model (most instruct models have "
            "one), or --prompt and --completion without --chat."
        )
    return needed or (problem is None and spec.chat is None)
