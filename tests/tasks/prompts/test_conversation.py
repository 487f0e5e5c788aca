"""Forms of conversations, and what is refused."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pytest

from autorank.tasks.prompts.conversation import Conversation, InvalidConversation, read

MESSAGES = [
    {"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
]  # fmt: skip
SHAREGPT = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
FORMS: dict[str, Any] = {
    "OpenAI": MESSAGES,
    "ShareGPT": SHAREGPT,
    "other names": [{"role": "developer", "text": "s"}, {"role": "User", "text": "q"}, {"role": "model", "text": "a"}],
    "a list of parts": [*MESSAGES[:1], {"role": "user", "content": [{"type": "text", "text": "q"}]}, MESSAGES[2]],
    "nulls, as in Parquet": [message | {"tool_calls": None, "name": None} for message in MESSAGES],
    "JSON text": json.dumps(MESSAGES),
    "an object": {"messages": MESSAGES},
    "an object with a system text": {"system": "s", "conversations": SHAREGPT[1:]},
    "one list for each key": {"role": ["system", "user", "assistant"], "content": ["s", "q", "a"]},
    "an array": np.array(MESSAGES, dtype=object),
    "a question at the end": [*MESSAGES, {"role": "user", "content": "more?"}],
    "a turn without weight at the end": [*MESSAGES, {"role": "assistant", "content": "b", "weight": 0}],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    conversation = read(FORMS[form])
    assert conversation == Conversation(MESSAGES, [False, False, True])
    assert Conversation.loads(conversation.dumps()) == conversation
    assert conversation.reference == "a" and json.loads(conversation.context) == [MESSAGES[:2], None]


def test_calls_of_tools() -> None:
    call = {"name": "add", "arguments": {"a": 1, "b": "x"}}
    calls: dict[str, Any] = {
        "OpenAI": {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": json.dumps(call["arguments"])}}]},
        "ShareGPT": {"from": "function_call", "value": json.dumps(call)},
    }  # fmt: skip
    for form, message in calls.items():
        result = {"role": "tool", "content": "2"} if form == "OpenAI" else {"from": "observation", "value": "2"}
        parsed = read([MESSAGES[1], message, result, MESSAGES[2]])
        assert parsed.trained == [False, True, False, True]
        assert parsed.messages[1]["content"] == "" and parsed.messages[2] == {"role": "tool", "content": "2"}
        assert [tool_call["function"] for tool_call in parsed.messages[1]["tool_calls"]] == [call]
        assert "add" in read([MESSAGES[1], message]).reference
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert (
        read({"messages": MESSAGES, "tools": json.dumps(tools)}).tools
        == tools
        == read({"messages": MESSAGES, "tools": tools}).tools
    )


def test_nulls_that_arrow_adds_are_removed() -> None:
    arguments, tools = {"city": "Paris", "inner": [{"a": 1, "b": None}], "expr": None}, [{"name": "f", "default": None}]
    for form, expected in ((arguments, {"city": "Paris", "inner": [{"a": 1}]}), (json.dumps(arguments), arguments)):
        call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": form}}]}
        parsed = read([MESSAGES[1], call], tools=tools)
        assert parsed.messages[1]["tool_calls"][0]["function"]["arguments"] == expected
        assert parsed.tools == [{"name": "f"}] and read(MESSAGES, tools=json.dumps(tools)).tools == tools


def test_a_system_message_apart_from_the_messages() -> None:
    messages = MESSAGES[1:]
    assert read(messages, system="s").messages == [{"role": "system", "content": "s"}, *messages]
    assert read({"conversations": messages, "system": "inner"}, system="outer").messages[0]["content"] == "inner"
    assert read(MESSAGES, system="another").messages == MESSAGES  # the messages have a system message
    assert all(read(messages, system=nothing).messages == messages for nothing in (None, "", " "))


def test_thoughts_are_kept() -> None:
    thought = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    assert read([MESSAGES[1], thought]).messages[-1] == thought


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not a list of messages"),
        ("hello", "not a list of messages"),
        ([], "not a list of messages"),
        ({"a": 1}, "not a list of messages"),
        (["hello"], "not a list of messages"),
        (3, "not a list of messages"),
        ([{"content": "q"}], "unknown role 'None'"),
        ([{"role": "critic", "content": "q"}], "unknown role 'critic'"),
        ([MESSAGES[1]], "no message of the assistant"),
        ([MESSAGES[1], MESSAGES[2] | {"weight": 0}], "no message of the assistant"),
        ([MESSAGES[1], {"role": "assistant", "content": " "}], "empty message of the assistant"),
        ([MESSAGES[1], {"role": "assistant", "content": 3}], "not text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, MESSAGES[2]], "not text"),
        ([{"role": "user", "content": "\ud83d"}, MESSAGES[2]], "unpaired surrogate"),
    ],
)
def test_invalid_conversations_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(InvalidConversation, match=reason):
        read(value)


def test_values_that_json_lacks_become_text() -> None:
    when = datetime.datetime(2024, 5, 1, 12)
    conversation = read([message | {"timestamp": when} for message in MESSAGES])
    assert json.loads(conversation.context)[0][1]["timestamp"] == "2024-05-01 12:00:00"
    assert Conversation.loads(conversation.dumps()).messages[2]["timestamp"] == "2024-05-01 12:00:00"


def test_values_nested_too_deeply_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InvalidConversation, match="nested too deeply"):
        read("[" * 200_000)
    with pytest.raises(InvalidConversation, match="nested too deeply"):
        read([message | {"extra": deep} for message in MESSAGES]).dumps()
