"""How prompts and completions become tokens: special tokens, chat templates, and what is cut where there are too many.

A sequence has room for so many tokens: the task's `max_length`, or what the tokenizer or the model's positions allow.
Completions keep all of theirs up to half of that (all of it in an encoder-decoder, whose decoder has room of its own)
and lose their ends beyond. Prompts have what the longest completion of their split leaves, so that there is room for as
long a completion when they are completed, and lose their beginnings beyond: what is asked for mostly comes last.
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
from autorank.tasks.data.examples import Examples, rows
from autorank.tasks.data.pairs import EncodedPairs, Pairs
from autorank.tasks.definition import Task

Shortened = tuple[list[list[int]], list[bool]]  # token ids, and which of them lost a part
END_OF_PROMPT = "\n"  # after the prompt, where no chat template and no decoder of its own parts it from the completion


@dataclass(frozen=True)
class Prompting:
    """For one tokenizer and model.

    Attributes:
        length: room for tokens.
        chat: whether a prompt is a user's message in the tokenizer's chat template.
        start: the token that starts an encoder-decoder's decoder; None for decoder-only models.
    """

    tokenizer: Any
    length: int
    chat: bool
    start: int | None

    @property
    def kind(self) -> type[Pairs]:
        return Pairs if self.start is None else EncodedPairs

    @property
    def tag(self) -> str:
        """Names the settings."""
        template = str(self.tokenizer.chat_template) if self.chat else ""
        # which tokens are special, the end token above all, differs between models of one vocabulary (base and chat)
        said = hashlib.sha256(f"{template} {sorted(self.tokenizer.special_tokens_map.items())}".encode()).hexdigest()
        return f"{self.length} {said} {self.start}"

    def split(self, examples: Examples) -> Pairs:
        """All examples as token ids.

        Raises:
            AutorankError: the template leaves no room for prompts, or the tokenizer makes nothing of one.
        """
        prompts, completions = (list(column) for column in examples.texts)
        targets, cut_targets = self._completions(completions)
        room = self.length - (max(map(len, targets)) if self.start is None else 0)
        ids, cut = self._chats(prompts, room) if self.chat else self._plain(prompts, room)
        if empty := [i for i, one in enumerate(ids) if not one]:
            raise AutorankError(
                f"The tokenizer makes no tokens of {rows(empty)} of the prompts. Is it the model's own?"
            )
        return self.kind(
            ids=_flat(ids), type_ids=None, offsets=_offsets(ids), labels=examples.labels,
            references=examples.references, target_ids=_flat(targets), target_offsets=_offsets(targets),
            cut=np.maximum(np.array(cut, np.int8), np.array(cut_targets, np.int8)),
        )  # fmt: skip

    def _completions(self, texts: list[str]) -> Shortened:
        end = self.tokenizer.eos_token_id
        if self.start is None:
            most, before = self.length // 2, []
            ended = [[*ids, end] for ids in self._ids(texts)]
        else:
            most, before = self.length, [self.start]
            made = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
            ended = [ids if ids and ids[-1] == end else [*ids, end] for ids in made]
        return [before + ids[:most] for ids in ended], [len(ids) > most for ids in ended]

    def _plain(self, texts: list[str], room: int) -> Shortened:
        """Prompts between the special tokens that the tokenizer puts around a text; none follow in a decoder."""
        before, after = self._frame()
        if self.start is None:
            texts, after = [text + END_OF_PROMPT for text in texts], []
        room -= len(before) + len(after)
        all_ids = self._ids(texts)
        shortened = [before + ids[max(0, len(ids) - room) :] + after for ids in all_ids]
        return shortened, [len(ids) > room for ids in all_ids]

    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        (bare,), framed = self._ids(["a"]), self.tokenizer("a")["input_ids"]
        at = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
        return framed[:at], framed[at + len(bare) :]

    def _chats(self, texts: list[str], room: int) -> Shortened:
        """Prompts as messages, each with the beginning of the answer's turn."""
        all_ids = self._ids([self._message(text) for text in texts])
        shortened = [
            ids if len(ids) <= room else self._shortened(text, len(ids), room)
            for text, ids in zip(texts, all_ids, strict=True)
        ]
        return shortened, [len(ids) > room for ids in all_ids]

    def _shortened(self, text: str, length: int, room: int) -> list[int]:
        """The message with as much of the end of `text` as fits."""
        (words,) = self._ids([text])
        surplus = length - room
        while surplus <= len(words):
            (ids,) = self._ids([self._message(self.tokenizer.decode(words[surplus:]))])
            if len(ids) <= room:
                return ids
            surplus += len(ids) - room
        raise AutorankError(
            f"The chat template alone takes more than the {room} tokens that prompts have beside the longest "
            "completion. Use a larger --max-length, or --no-chat."
        )

    def _message(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        found: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return found

    def _ids(self, texts: list[str]) -> list[list[int]]:
        made: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return made


def prompting(task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Prompting:
    """How the task's pairs are tokenised for `model`.

    Raises:
        AutorankError: the model cannot be had or cannot write, or the tokenizer has no end token or no chat template.
    """
    from transformers import AutoConfig

    from autorank.modeling.base_model import auto_class

    with hub_access("model", model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trusted())
    auto_class(task.kind, config)  # whether it can write at all is to be said first
    if tokenizer.eos_token_id is None:
        raise AutorankError(f"The tokenizer of {model!r} has no end token, so no text would ever end. Give it one.")
    if spec.chat and not tokenizer.chat_template:
        raise AutorankError(f"The tokenizer of {model!r} has no chat template, which --chat asks for. Leave it out.")
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    length = min(spec.max_length or task.max_length, tokenizer.model_max_length, positions)
    start = None
    if getattr(config, "is_encoder_decoder", False):
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            raise AutorankError(f"The config.json of {model!r} has no decoder_start_token_id. Put it there.")
    chat = bool(tokenizer.chat_template) if spec.chat is None else spec.chat
    return Prompting(tokenizer, length, chat, start)


def _flat(lists: list[list[int]]) -> np.ndarray:
    return np.fromiter((number for one in lists for number in one), np.int32, sum(map(len, lists)))


def _offsets(lists: list[list[int]]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
