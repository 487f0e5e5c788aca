"""Tokenizes conversations: which tokens the assistant's turns are, and how long conversations are truncated.

The tokens are those of `tokenizer.apply_chat_template`. The last trained turn is the completion, and all before it the
prompt, whose earlier turns of the assistant also have a loss. Completions keep at most half of the length and are
truncated at the end. Prompts keep what the longest completion of their split leaves: the oldest exchanges are left out
first, system messages and the last question stay; if that is not enough, the longest text loses its beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.pairs import Conversations
from autorank.tasks.prompts.chat_template import ChatTemplate, Turns, UnclearTemplate
from autorank.tasks.prompts.conversation import Conversation
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import MAX_LISTED
from autorank.tasks.splits.tokenized import Tokenization, flat, offsets

TOKENIZER_BATCH = 1_000  # conversations tokenized at a time


@dataclass(frozen=True)
class Encoded:
    """Tokens of a conversation.

    Attributes:
        prompt: Tokens before the last trained turn, int64, `tokens`.
        trained: Whether the loss includes them, bool, `tokens`.
        target: Tokens of the last trained turn, int64, `target tokens`.
    """

    prompt: np.ndarray
    trained: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class ChatEncoding:
    """Tokenizes conversations, or prompts and completions as conversations of two messages.

    Attributes:
        tokenizer: The tokenizer, which has a chat template.
        length: Maximum number of tokens of a sequence.
        start: None: only decoder-only models are trained with conversations.
    """

    tokenizer: Any
    length: int
    start: None = None

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template."""
        return ChatTemplate(self.tokenizer)

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end a turn, see `text_ends`.

        Raises:
            AutorankError: The template does not show where a turn ends.
        """
        try:
            _ = self.template.end
        except UnclearTemplate as error:
            raise AutorankError(f"The tokenizer's chat template cannot be used: {error}. {_REMEDY}") from error
        return text_ends(self.tokenizer)

    @property
    def tokenization(self) -> Tokenization:
        """How examples become a tokenized split."""
        special = sorted(self.tokenizer.special_tokens_map.items())
        digest = hashlib.sha256(f"{self.tokenizer.chat_template} {special}".encode()).hexdigest()
        return Tokenization(self.split, f"{self.length} {digest}", self.length, Conversations, True, tuple(self.ends))

    def split(self, examples: Examples) -> Conversations:
        """Tokenize all examples of a split.

        Args:
            examples: Conversations, or prompts and completions.

        Returns:
            The tokenized split.

        Raises:
            AutorankError: The template refuses a conversation, does not show where a turn is, or leaves no room.
        """
        read = Conversation.loads if len(examples.texts) == 1 else _exchange
        conversations = [read(*texts) for texts in zip(*examples.texts, strict=True)]
        encoded = self.encode(conversations)
        targets = [tokens.target[: self.length // 2] for tokens in encoded]
        room = self.length - max(map(len, targets))
        truncated = [
            len(tokens.prompt) > room or len(tokens.target) > len(target)
            for tokens, target in zip(encoded, targets, strict=True)
        ]
        for i, tokens in enumerate(encoded):
            if len(tokens.prompt) > room:
                encoded[i] = self._shortened(conversations[i], tokens, room)
        prompts = [tokens.prompt for tokens in encoded]
        return Conversations(
            ids=flat(prompts), type_ids=None, offsets=offsets(prompts), labels=examples.labels,
            references=examples.references, target_ids=flat(targets), target_offsets=offsets(targets),
            trained=flat([tokens.trained for tokens in encoded], np.int8), truncated=np.array(truncated, np.int8),
        )  # fmt: skip

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """Tokenize conversations in full length.

        Args:
            conversations: The conversations.

        Returns:
            The tokens of each.

        Raises:
            AutorankError: The template refuses a conversation, or does not show where a turn is.
        """
        rendered: list[tuple[str, Turns]] = []
        problems: dict[str, list[Conversation]] = defaultdict(list)
        for conversation in conversations:
            try:
                rendered.append(self.template.turns(conversation))
            except UnclearTemplate as error:
                problems[str(error)].append(conversation)
        if problems:
            raise _refused(problems)
        encoded: list[Encoded] = []
        for begin in range(0, len(rendered), TOKENIZER_BATCH):
            part = rendered[begin : begin + TOKENIZER_BATCH]
            tokens = self.tokenizer(
                [text for text, _ in part], add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for (_, turns), ids, spans in zip(part, tokens["input_ids"], tokens["offset_mapping"], strict=True):
                encoded.append(_encoded(np.array(ids), np.array(spans), turns))
        return encoded

    def _shortened(self, conversation: Conversation, encoded: Encoded, room: int) -> Encoded:
        """The conversation with a prompt of at most `room` tokens."""
        while (surplus := len(encoded.prompt) - room) > 0:
            shorter = _without_oldest(conversation, surplus / len(encoded.prompt))
            conversation = shorter or self._without_beginning(conversation, surplus, room)
            (encoded,) = self.encode([conversation])
        return encoded

    def _without_beginning(self, conversation: Conversation, surplus: int, room: int) -> Conversation:
        """The conversation whose longest text before the last turn lacks the first `surplus` tokens."""
        messages = list(conversation.messages)
        longest = max(range(len(messages) - 1), key=lambda i: len(messages[i]["content"]), default=None)
        text = "" if longest is None else messages[longest]["content"]
        if not text:
            raise AutorankError(
                f"The chat template alone needs more than the {room} tokens that the longest completion leaves for "
                "prompts. Use a larger --max-length, or --prompt and --completion with --no-chat."
            )
        assert longest is not None
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        messages[longest] = messages[longest] | {"content": self.tokenizer.decode(ids[surplus:]).lstrip("\ufffd")}
        return replace(conversation, messages=messages)


def text_ends(tokenizer: Any) -> list[int]:
    """Return the tokens that end a generated text.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The end token, and the special token that ends a turn in the chat template, if there is one.
    """
    ends = [tokenizer.eos_token_id]
    with contextlib.suppress(UnclearTemplate):
        if tokenizer.chat_template and (mark := ChatTemplate(tokenizer).end):
            (token, *_) = tokenizer(mark, add_special_tokens=False, verbose=False)["input_ids"]
            ends += [token] if token in tokenizer.added_tokens_decoder else []
    return list(dict.fromkeys(ends))


_REMEDY = "Use a model whose template marks the assistant's turns with {% generation %}, or correct the template."


def _exchange(prompt: str, completion: str) -> Conversation:
    """A prompt and its completion as a conversation."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return Conversation(messages, [False, True])


def _encoded(ids: np.ndarray, spans: np.ndarray, turns: Turns) -> Encoded:
    """Tokens of a text, from their spans and those of the trained turns: a turn has each token that overlaps it.

    Some tokenizers trim white space from spans. A token of white space alone then begins where the one before it ends.
    """
    starts, stops = spans.reshape(-1, 2).T
    before = np.concatenate([[0], np.maximum.accumulate(stops)[:-1]])
    starts = np.where(starts == stops, np.minimum(starts, before), starts)
    inside = [(stops > start) & (starts < stop) for start, stop in turns]
    if not all(tokens.any() for tokens in inside):
        raise AutorankError(
            "The tokenizer returns no tokens for a turn of the assistant. Check that it belongs to the model."
        )
    first, *_, last = np.flatnonzero(inside[-1]).tolist() * 2
    return Encoded(ids[:first], np.any(inside, axis=0)[:first], ids[first : last + 1])


def _without_oldest(conversation: Conversation, share: float) -> Conversation | None:
    """The conversation without its oldest exchanges, about `share` of its text; None if it has only one."""
    messages = conversation.messages
    begin = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    questions = [i for i in range(begin + 1, len(messages)) if messages[i]["role"] == "user"]
    if not questions:
        return None
    sizes = np.cumsum([len(str(message)) for message in messages])
    enough = [i for i in questions if sizes[i - 1] - (sizes[begin - 1] if begin else 0) >= share * sizes[-1]]
    end = (enough or questions[-1:])[0]
    indices = [*range(begin), *range(end, len(messages))]
    return replace(
        conversation, messages=[messages[i] for i in indices], trained=[conversation.trained[i] for i in indices]
    )


def _refused(problems: dict[str, list[Conversation]]) -> AutorankError:
    """The error for conversations that the template cannot render, or whose turns it does not show."""
    lines = [
        f"  {reason} ({len(conversations):,} in all; the first begins with "
        f"{str(conversations[0].messages[0]['content'])[:60]!r})"
        for reason, conversations in list(problems.items())[:MAX_LISTED]
    ]
    return AutorankError(
        "The tokenizer's chat template cannot be used with these conversations:\n" + "\n".join(lines) + f"\n{_REMEDY}"
    )
