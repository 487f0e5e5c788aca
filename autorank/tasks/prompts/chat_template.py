"""Renders conversations with a tokenizer's chat template, and finds the turns of the assistant in the text.

A template with `{% generation %}` marks these turns itself. In other templates a turn begins where the conversation
before it ends, rendered with the generation prompt, and ends where the conversation up to it ends: both must be
prefixes of the whole text. Templates that render a message differently once others follow (Qwen3 leaves thoughts out)
have no such prefix. There the turn is found by its neighbors: its text is replaced by a probe, and the text around
the probe must equal the text around the turn. White space after the mark that ends a turn is not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from autorank.tasks.prompts.conversation import Conversation, Message

PROBES = ("1probe2", "3probe4")  # without a common beginning or end
Turns = list[tuple[int, int]]  # start and end of each, in characters


class UnclearTemplate(ValueError):
    """A chat template cannot render a conversation, or does not show where a turn is; the message says why."""


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        tokenizer: The tokenizer.
    """

    tokenizer: Any

    def render(self, messages: Sequence[Message], tools: list[Any] | None = None, prompt: bool = False) -> str:
        """Render messages.

        Args:
            messages: The messages.
            tools: Descriptions of the tools.
            prompt: Whether the text ends with the beginning of the assistant's next turn.

        Returns:
            The text.

        Raises:
            UnclearTemplate: The template refuses the messages.
        """
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages), tools=tools, tokenize=False, add_generation_prompt=prompt
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UnclearTemplate(f"the template refuses it: {error}") from error
        return text

    def turns(self, conversation: Conversation) -> tuple[str, Turns]:
        """Render a conversation and find the trained turns in the text.

        Args:
            conversation: The conversation.

        Returns:
            The text, and start and end of each trained turn.

        Raises:
            UnclearTemplate: The template refuses the conversation, or a turn cannot be found.
        """
        if self._marks_turns(conversation.tools):
            return self._marked(conversation)
        messages, tools = conversation.messages, conversation.tools
        text = self.render(messages, tools)
        turns = [self._turn(messages, tools, i, text) for i, train in enumerate(conversation.trained) if train]
        if any(start >= end for start, end in turns) or any(
            turn[1] > following[0] for turn, following in pairwise(turns)
        ):
            raise UnclearTemplate("the template does not render a message of the assistant as a turn of its own")
        return text, turns

    @cached_property
    def end(self) -> str:
        """The mark that ends a turn, without white space; empty if the template has none.

        Raises:
            UnclearTemplate: The template does not render an answer, or adds text after the last message.
        """
        question, answer = ({"role": role, "content": "question"} for role in ("user", "assistant"))
        text_after = self._around([question, answer], None, 1)[1]
        if not self._around([question, answer, question], None, 1)[1].startswith(text_after):
            raise UnclearTemplate("the template adds text after the last message of a conversation")
        return text_after.strip()

    def _marks_turns(self, tools: list[Any] | None) -> bool:
        template = self.tokenizer.get_chat_template(None, tools)
        return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None

    def _marked(self, conversation: Conversation) -> tuple[str, Turns]:
        """The text, and the turns that the template itself marks."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                conversations=[conversation.messages], tools=conversation.tools, return_assistant_tokens_mask=True,
                chat_template=self.tokenizer.get_chat_template(None, conversation.tools),
                **self.tokenizer.special_tokens_map,
            )  # fmt: skip
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UnclearTemplate(f"the template refuses it: {error}") from error
        text, turns = rendered[0][0], rendered[1][0]
        spoken = [train for train, message in zip(conversation.trained, conversation.messages, strict=True)
                  if message["role"] == "assistant"]  # fmt: skip
        if not all(spoken):
            if len(turns) != len(spoken):
                raise UnclearTemplate("the template's {% generation %} does not mark each turn of the assistant once")
            turns = [turn for turn, train in zip(turns, spoken, strict=True) if train]
        turns = [(start, end) for start, end in turns if start < end]
        if not turns:
            raise UnclearTemplate("the template's {% generation %} marks no text")
        return text, turns

    def _turn(self, messages: Sequence[Message], tools: list[Any] | None, i: int, text: str) -> tuple[int, int]:
        """Start and end of turn `i` in the text of the whole conversation."""
        before = self.render(messages[:i], tools, prompt=True) if i else None
        until = text if i + 1 == len(messages) else self.render(messages[: i + 1], tools)
        if before is not None and text.startswith(before) and text.startswith(until):
            start, end = len(before), len(until)
        else:
            start, end = self._between(messages, tools, i, text, before)
        content = str(messages[i]["content"]).rstrip()
        turn = text[start:end].rstrip()
        return start, end if content and turn.endswith(content) else start + len(turn)

    def _between(
        self, messages: Sequence[Message], tools: list[Any] | None, i: int, text: str, before: str | None
    ) -> tuple[int, int]:
        """Start and end of turn `i`, found by the text before and after it."""
        left, right = self._around(messages, tools, i)
        header, end_mark = self._around(messages[: i + 1], tools, i)
        opening = ""
        if before is not None:
            common = _common(before, header)
            opening = header[common:]
            if common < min(len(before), len(header)):
                raise UnclearTemplate("the template's generation prompt is not how it begins a turn of the assistant")
        start = len(left) - len(opening) if left.endswith(opening) else len(left)
        if before is not None and text.startswith(before):
            start = len(before)
        later = right.removeprefix(end_mark)
        if not right.startswith(end_mark) or text[:start] != left[:start] or not text[start:].endswith(later):
            raise UnclearTemplate(
                f"the template renders messages differently once others follow, so the turn of message {i + 1} "
                "cannot be separated from its neighbors"
            )
        return start, len(text) - len(later)

    def _around(self, messages: Sequence[Message], tools: list[Any] | None, i: int) -> tuple[str, str]:
        """The text before and after the content of message `i`."""
        first, second = (
            self.render([*messages[:i], {"role": "assistant", "content": probe}, *messages[i + 1 :]], tools)
            for probe in PROBES
        )
        before = first[: _common(first, second)]
        if not first[len(before) :].startswith(PROBES[0]) or not second[len(before) :].startswith(PROBES[1]):
            raise UnclearTemplate("the template does not render a message of the assistant as it is")
        after = first[len(before) + len(PROBES[0]) :]
        if second[len(before) + len(PROBES[1]) :] != after:
            raise UnclearTemplate("the template renders a message of the assistant more than once")
        return before, after


def _common(first: str, second: str) -> int:
    """Number of equal characters at the beginning of both texts."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)
