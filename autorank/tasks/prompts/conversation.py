"""Reads conversations: OpenAI's messages (role, content) and ShareGPT's (from, value), with system and tool messages.

What templates of transformers expect is a list of messages with `role` (system, user, assistant or tool) and `content`
(text), and of an assistant's message optionally `tool_calls` and `reasoning_content`. All other forms become this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "ai", "bot", "chatbot", "chatgpt", "bard", "bing"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
}
CALLS = ("function_call", "tool_call")  # roles of messages whose text is a call of a tool, as in ShareGPT's form
TOOLS, SYSTEM = "tools", "system"  # columns or keys beside the messages, as in OpenAI's and ShareGPT's files
ROLE_KEYS, TEXT_KEYS, LIST_KEYS = ("role", "from"), ("content", "value", "text"), ("messages", "conversations")


class InvalidConversation(ValueError):
    """A value is not a conversation that a model can learn from; the message says what is wrong."""


@dataclass(frozen=True)
class Conversation:
    """Messages up to the last turn of the assistant that is trained.

    Attributes:
        messages: The messages, as chat templates expect them; the last one is the assistant's.
        trained: Whether the loss includes a message, for each message; of the last one it is true.
        tools: Descriptions of the tools, for the template.
    """

    messages: list[Message]
    trained: list[bool]
    tools: list[Any] | None = None

    @property
    def reference(self) -> str:
        """The text of the last turn, or its calls of tools as JSON."""
        message = self.messages[-1]
        return message["content"] or _dumped(message.get("tool_calls"))

    @property
    def context(self) -> str:
        """All messages before the last turn, as JSON."""
        return _dumped([self.messages[:-1], self.tools])

    def dumps(self) -> str:
        """This conversation as JSON."""
        return _dumped([self.messages, self.trained, self.tools])

    @staticmethod
    def loads(text: str) -> Conversation:
        """Return the conversation that `dumps` wrote."""
        return Conversation(*json.loads(text))


def read(value: Any, tools: Any = None, system: Any = None) -> Conversation:
    """Convert a value of a data set to a conversation.

    Messages after the assistant's last trained turn are left out: they have no loss. `weight` 0 (OpenAI) or `train`
    false leaves the turn of an assistant out of the loss.

    Args:
        value: A list of messages; an object with `messages` or `conversations`, and optionally `system` and `tools`; or
            either as JSON text.
        tools: Descriptions of the tools, if they are apart from the messages; also as JSON text.
        system: The text of the system message, if it is apart from the messages; it comes first.

    Returns:
        The conversation.

    Raises:
        InvalidConversation: The value has another form, a role is unknown, a message is not text, or the assistant
            says nothing.
    """
    value, tools = _parsed(_without_nulls(value)), _parsed(_without_nulls(tools))
    if isinstance(value, Mapping) and (key := next((key for key in LIST_KEYS if value.get(key) is not None), None)):
        tools, system = _parsed(value.get(TOOLS)) or tools, value.get(SYSTEM) or system
        value = _parsed(value[key])
    if isinstance(value, Mapping):  # one list for each key
        value = [dict(zip(value, row, strict=False)) for row in zip(*map(_listed, value.values()), strict=False)]
    raw = _listed(value)
    if not raw or not all(isinstance(message, Mapping) for message in raw):
        raise InvalidConversation("is not a list of messages")
    messages, trained = map(list, zip(*map(_message, raw), strict=True))
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages, trained = [{"role": "system", "content": system}, *messages], [False, *trained]
    if not any(trained):
        raise InvalidConversation("has no message of the assistant to learn from")
    end = max(i for i, train in enumerate(trained) if train) + 1
    return Conversation(messages[:end], trained[:end], list(tools) if isinstance(tools, list) and tools else None)


def joined(prompt: Any, completion: Any) -> list[Any] | None:
    """Join a prompt and its completion that are both lists of messages, as in TRL's conversational data.

    Args:
        prompt: Messages that are not trained.
        completion: The messages after them.

    Returns:
        Messages for `read`; None if one of the two is not a list of messages.
    """
    if not are_messages(completion) or not (prompt == [] or are_messages(prompt)):
        return None
    return [*({**message, "weight": 0} for message in prompt), *completion]


def are_messages(value: Any) -> bool:
    """Whether a value is a list of messages."""
    raw = _listed(value)
    return bool(raw) and all(isinstance(m, Mapping) and any(key in m for key in ROLE_KEYS) for m in raw)


def _message(raw: Mapping[str, Any]) -> tuple[Message, bool]:
    """A message as templates expect it, and whether it is trained."""
    fields = {key: value for key, value in raw.items() if value is not None}
    name = str(next((fields.pop(key) for key in ROLE_KEYS if key in fields), None))
    role = ROLES.get(name.lower())
    if role is None:
        raise InvalidConversation(f"has a message with the unknown role {name!r}")
    text = _text(next((fields.pop(key) for key in TEXT_KEYS if key in fields), ""))
    weight, train = fields.pop("weight", 1), fields.pop("train", True)
    call = _parsed(text) if name.lower() in CALLS else None
    if isinstance(call, Mapping) and "name" in call:
        text, fields["tool_calls"] = "", [{"function": dict(call)}]
    if calls := _listed(fields.pop("tool_calls", None)):
        fields["tool_calls"] = [_call(call) for call in calls]
    trained = role == "assistant" and bool(weight) and bool(train)
    if trained and not text.strip() and not calls:
        raise InvalidConversation("has an empty message of the assistant")
    return {"role": role, "content": text, **fields}, trained


def _text(content: Any) -> str:
    """The text of a message; of a list of parts, the parts joined."""
    if not isinstance(content, str):
        parts = _listed(content)
        if not parts or not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
            raise InvalidConversation("has a message that is not text")
        content = "".join(part["text"] for part in parts)
    try:
        content.encode()
    except UnicodeEncodeError:
        raise InvalidConversation("contains an unpaired surrogate") from None
    return str(content)


def _call(call: Any) -> Message:
    """A call of a tool; arguments that are JSON text (OpenAI) become an object, as templates expect."""
    if not isinstance(call, Mapping):
        raise InvalidConversation("has a call of a tool that is not an object")
    call = {key: value for key, value in call.items() if value is not None}
    function = dict(call.get("function") or {key: call[key] for key in ("name", "arguments") if key in call})
    function["arguments"] = _parsed(function.get("arguments", {}))
    others = {key: value for key, value in call.items() if key not in ("name", "arguments")}
    return {"type": "function", **others, "function": function}


def _without_nulls(value: Any) -> Any:
    """The value without the null entries that Arrow adds to objects, for keys of others; JSON text unchanged."""
    try:
        if isinstance(value, Mapping):
            return {key: _without_nulls(item) for key, item in value.items() if item is not None}
        return [_without_nulls(item) for item in value] if isinstance(value, list) else value
    except RecursionError:
        raise InvalidConversation("is nested too deeply") from None


def _parsed(value: Any) -> Any:
    """The value of JSON text; other values and other text unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except RecursionError:
        raise InvalidConversation("is nested too deeply") from None
    except ValueError:
        return value


def _dumped(value: Any) -> str:
    """The value as JSON; types that JSON lacks, such as times in parquet files, as text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        raise InvalidConversation("is nested too deeply") from None


def _listed(value: Any) -> list[Any]:
    """A list or an array as a list; nothing for all else."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []
