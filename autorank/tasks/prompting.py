"""Tokenization of prompts and completions: special tokens, chat templates, and cutting of long texts.

A sequence has a maximum number of tokens: the task's `max_length`, or the limit of the tokenizer or of the model's
positions. Completions keep at most half of it (in an encoder-decoder all of it, since the decoder has a sequence of its
own) and are cut at the end. Prompts keep what the longest completion of their split leaves, so a completion of that
length can still be generated. Prompts are cut at the beginning, because the question usually comes last.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.modeling.hub_access import hub_access
from autorank.modeling.remote_code import trusted
from autorank.spec import TaskSpec
from autorank.tasks.data.pairs import EncodedPairs, Pairs
from autorank.tasks.definition import Task
from autorank.tasks.examples import Examples
from autorank.tasks.splits import Tokenization
from autorank.tasks.table import rows

Shortened = tuple[list[list[int]], list[bool]]  # token ids, and which of them were cut
END_OF_PROMPT = "\n"  # separates prompt and completion in decoder-only models without a chat template


@dataclass(frozen=True)
class Prompting:
    """Tokenizes pairs for one tokenizer and model.

    Attributes:
        tokenizer: The tokenizer.
        length: Maximum number of tokens of a sequence.
        chat: Whether a prompt becomes a user's message in the tokenizer's chat template.
        start: First token of an encoder-decoder's decoder; None for decoder-only models.
    """

    tokenizer: Any
    length: int
    chat: bool
    start: int | None

    @property
    def tokenization(self) -> Tokenization:
        """How examples become a tokenized split."""
        # prompts are cut so that the longest completion of their split fits, hence `whole`
        return Tokenization(self.split, self._tag, self.length, self._class, whole=True)

    @property
    def _class(self) -> type[Pairs]:
        return Pairs if self.start is None else EncodedPairs

    @property
    def _tag(self) -> str:
        template = str(self.tokenizer.chat_template) if self.chat else ""
        # models with one vocabulary (base and chat) can have different special tokens, above all end tokens
        digest = hashlib.sha256(f"{template} {sorted(self.tokenizer.special_tokens_map.items())}".encode()).hexdigest()
        return f"{self.length} {digest} {self.start}"

    def split(self, examples: Examples) -> Pairs:
        """Tokenize all examples of a split.

        Args:
            examples: Prompts and completions.

        Returns:
            The tokenized split.

        Raises:
            AutorankError: The chat template leaves no room for prompts, or a prompt has no tokens.
        """
        prompts, completions = (list(column) for column in examples.texts)
        targets, cut_targets = self._completions(completions)
        room = self.length - (max(map(len, targets)) if self.start is None else 0)
        ids, cut = self._chats(prompts, room) if self.chat else self._plain(prompts, room)
        if empty := [i for i, tokens in enumerate(ids) if not tokens]:
            raise AutorankError(
                f"The tokenizer returns no tokens for the prompts in {rows(empty)}. Check that it belongs to the model."
            )
        return self._class(
            ids=_flat(ids), type_ids=None, offsets=_offsets(ids), labels=examples.labels,
            references=examples.references, target_ids=_flat(targets), target_offsets=_offsets(targets),
            cut=np.maximum(np.array(cut, np.int8), np.array(cut_targets, np.int8)),
        )  # fmt: skip

    def _completions(self, texts: list[str]) -> Shortened:
        """Completions with their end tokens, and in encoder-decoders with the start token."""
        end = self.tokenizer.eos_token_id
        if self.start is None:
            most, before = self.length // 2, []
            ended = [[*ids, end] for ids in self._ids(texts)]
        else:
            most, before = self.length, [self.start]
            encoded = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
            ended = [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]
        return [before + ids[:most] for ids in ended], [len(ids) > most for ids in ended]

    def _plain(self, texts: list[str], room: int) -> Shortened:
        """Prompts with the tokenizer's special tokens; in decoder-only models only those before the text."""
        before, after = self._frame()
        if self.start is None:
            texts, after = [text + END_OF_PROMPT for text in texts], []
        room -= len(before) + len(after)
        all_ids = self._ids(texts)
        shortened = [before + ids[max(0, len(ids) - room) :] + after for ids in all_ids]
        return shortened, [len(ids) > room for ids in all_ids]

    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        (plain,), full = self._ids(["a"]), self.tokenizer("a")["input_ids"]
        start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
        return full[:start], full[start + len(plain) :]

    def _chats(self, texts: list[str], room: int) -> Shortened:
        """Prompts as messages in the chat template, each followed by the beginning of the answer."""
        all_ids = self._ids([self._message(text) for text in texts])
        shortened = [
            ids if len(ids) <= room else self._shortened(text, len(ids), room)
            for text, ids in zip(texts, all_ids, strict=True)
        ]
        return shortened, [len(ids) > room for ids in all_ids]

    def _shortened(self, text: str, length: int, room: int) -> list[int]:
        """The message with the end of `text`, cut to `room` tokens."""
        (words,) = self._ids([text])
        surplus = length - room
        while surplus <= len(words):
            (ids,) = self._ids([self._message(self.tokenizer.decode(words[surplus:]))])
            if len(ids) <= room:
                return ids
            surplus += len(ids) - room
        raise AutorankError(
            f"The chat template alone needs more than the {room} tokens that the longest completion leaves for "
            "prompts. Use a larger --max-length, or --no-chat."
        )

    def _message(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        message: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return message

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def prompting(task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Prompting:
    """Create the tokenization of a text-to-text task for a model.

    Args:
        task: The task.
        spec: The user's options for the task.
        model: Directory or name of the base model on the Hub.
        tokenizer: Its tokenizer.

    Returns:
        The tokenization.

    Raises:
        AutorankError: The model cannot be loaded or cannot generate text, or the tokenizer has no end token or no chat
            template.
    """
    from transformers import AutoConfig

    from autorank.modeling.base_model import auto_class

    with hub_access("model", model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trusted())
    auto_class(task.kind.head, config)  # raises first if the model cannot generate text
    if tokenizer.eos_token_id is None:
        raise AutorankError(
            f"The tokenizer of {model!r} has no end token, so texts would never end. Add an eos_token to it."
        )
    if spec.chat and not tokenizer.chat_template:
        raise AutorankError(f"--chat needs a chat template, but the tokenizer of {model!r} has none. Omit --chat.")
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    length = min(spec.max_length or task.max_length, tokenizer.model_max_length, positions)
    start = None
    if getattr(config, "is_encoder_decoder", False):
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            raise AutorankError(f"The config.json of {model!r} has no decoder_start_token_id. Add it.")
    chat = bool(tokenizer.chat_template) if spec.chat is None else spec.chat
    return Prompting(tokenizer, length, chat, start)


def _flat(lists: list[list[int]]) -> np.ndarray:
    return np.fromiter((token for tokens in lists for token in tokens), np.int32, sum(map(len, lists)))


def _offsets(lists: list[list[int]]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(map(len, lists)))]).astype(np.int64)
