"""Forms of completions: texts, annotations, and lists of messages."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load, registry
from autorank.tasks.named.generation import own_task
from autorank.tasks.own_data import detect_columns
from autorank.tasks.prompts.completions import to_examples
from autorank.tasks.prompts.conversation import Conversation
from autorank.tasks.splits.table import Table
from tests import tiny_language_models

TASK = own_task("x", ("q",), "a")


@pytest.mark.parametrize(
    ("completion", "texts"),
    [
        ("hello0", ["hello0"]),
        ({"text": "hello0"}, ["hello0"]),
        ({"text": ["a", "b"], "source": ["s", "t"]}, ["a", "b"]),
        ([{"text": "a"}, {"text": "b"}], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_forms(completion: Any, texts: list[str]) -> None:
    assert list(to_examples(TASK, Table({"q": ["q"], "a": [completion]}, "x")).texts[1]) == texts


@pytest.mark.parametrize(
    ("completion", "problem"),
    [
        ({"text": None}, "null"), ({"text": []}, "empty"), ({"text": 3}, "not text"), ({"other": "a"}, "not text"),
        ([{"other": "a"}], "not text"), ([["a"]], "not text"), ({}, "not text"), ([None], "null"),
    ],
)  # fmt: skip
def test_invalid_forms(completion: Any, problem: str) -> None:
    with pytest.raises(AutorankError, match=f"'a' is {problem}: row 1"):
        to_examples(TASK, Table({"q": ["q"], "a": [completion]}, "x"))


@pytest.mark.parametrize("label", ["a", ""])
def test_no_rows(label: str) -> None:
    with pytest.raises(AutorankError, match="x has no rows"):
        to_examples(replace(TASK, label=label), Table({"q": [], "a": []}, "x"))


def exchange(question: str, answer: str) -> dict[str, Any]:
    """A prompt and a completion in TRL's conversational form."""
    history = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    return {
        "prompt": [*history, {"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


@pytest.mark.usefixtures("own_cache")
def test_lists_of_messages_are_one_conversation(tmp_path: Path) -> None:
    path = tiny_language_models.write(tmp_path / "x.jsonl", [exchange(f"w{i}", f"w{i + 1}") for i in range(20)])
    columns = detect_columns(str(path), None)
    assert columns == {"prompt": ("prompt",), "completion": "completion"}
    spec = TaskSpec(name="x", data=path, **columns)
    _, train, _ = registry.read(spec)
    conversation = Conversation.loads(train.texts[0][0])
    assert conversation.trained == [False, False, False, True] and train.references is not None
    assert conversation.reference == train.references[0]
    data = load(spec, tiny_language_models.model("llama", tmp_path / "chat", chat=True))
    assert len(data.train) == 18 and not data.warnings
    with pytest.raises(AutorankError, match="lists of messages, which need a tokenizer with a chat template"):
        load(spec, tiny_language_models.model("llama", tmp_path / "plain"))
    rows = [exchange("w1", "w2"), exchange("w1", "w2") | {"prompt": "w1"}]
    with pytest.raises(AutorankError, match="'q,a' is not a list of messages: row 2"):
        to_examples(TASK, Table({"q": [row["prompt"] for row in rows], "a": [row["completion"] for row in rows]}, "x"))


@pytest.mark.parametrize("lists", [True, False])
def test_tools_and_system_messages_of_lists_of_messages_only(lists: bool, tmp_path: Path) -> None:
    extra = {"tools": [{"name": "add", "default": None}], "system": "s"}
    rows = [(exchange(f"w{i}", "a") if lists else {"prompt": f"w{i}", "completion": "a"}) | extra for i in range(20)]
    path = tiny_language_models.write(tmp_path / "x.jsonl", rows)
    _, train, _ = registry.read(TaskSpec(name="x", data=path, prompt=("prompt",), completion="completion"))
    if lists:
        conversation = Conversation.loads(train.texts[0][0])
        assert conversation.messages[0] == {"role": "system", "content": "s"} and conversation.tools == [
            {"name": "add"}
        ]
    else:
        assert train.texts[1][:2] == ["a", "a"]


def test_messages_with_times(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 1)
    roles = ("user", "assistant")
    rows = [[{"role": role, "content": f"w{i}", "timestamp": when} for role in roles] for i in range(20)]
    pq.write_table(pa.table({"conversation": rows}), tmp_path / "x.parquet")
    _, train, _ = registry.read(TaskSpec(name="x", data=tmp_path / "x.parquet", messages="conversation"))
    assert Conversation.loads(train.texts[0][0]).messages[0]["timestamp"].startswith("2024-05-01")


def test_a_conversation_nested_too_deeply_is_listed(tmp_path: Path) -> None:
    path = tiny_language_models.write(tmp_path / "x.jsonl", [{"m": "[" * 200_000}])
    with pytest.raises(AutorankError, match="'m' is nested too deeply: row 1"):
        registry.read(TaskSpec(name="x", data=path, messages="m"))
