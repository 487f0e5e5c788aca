"""Text-to-text tasks: columns as prompts and completions, what is held out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.options.calls import TrainCall
from autorank.spec import TaskSpec
from autorank.tasks import TASKS, registry, resolve
from autorank.tasks.named.generation import GENERATION, OWN_MODEL, own_task
from autorank.tasks.own_data import detect_columns
from autorank.tasks.prompts.completions import to_examples
from autorank.tasks.prompts.conversation import Conversation
from autorank.tasks.splits.stratified import whole_prompts
from autorank.tasks.splits.table import Table
from tests import tiny_language_models


def folder(path: Path, **splits: list[dict[str, Any]]) -> Path:
    path.mkdir()
    for name, rows in splits.items():
        tiny_language_models.write(path / f"{name}.jsonl", rows)
    return path


def test_tasks_and_their_scores() -> None:
    assert set(GENERATION) == {"e2e", "dart", "dialogsum", "gsm8k"}
    for task in GENERATION.values():
        assert (task.kind.name, task.outputs, task.label_names) == ("generation", 0, ())
    scores = {name: task.metrics[0] for name, task in GENERATION.items()}
    assert scores == {"e2e": "bleu", "dart": "bleu", "dialogsum": "rouge", "gsm8k": "exact_answer"}


def test_prompts_of_e2e() -> None:
    columns = {"meaning_representation": ["name[A]", "name[{B}]", "name[A]"], "human_reference": ["A.", "B.", "An A."]}
    examples = to_examples(TASKS["e2e"], Table(columns, "x"))
    assert examples.texts[0][1] == "Describe the restaurant in a sentence or two.\nname[{B}]\nDescription:"
    assert list(examples.texts[1]) == ["A.", "B.", "An A."] == list(examples.references or ())
    assert examples.labels.tolist() == [0, 1, 0]  # which prompt


@pytest.mark.parametrize(
    "annotations",
    [
        {"source": ["a", "b"], "text": ["One.", "Two."]},
        [{"source": "a", "text": "One."}, {"source": "b", "text": "Two."}],
    ],
)
def test_each_annotation_of_dart_is_an_example(annotations: Any) -> None:
    triples = [["Mars Hill", "LEVEL", "High"], ["Mars Hill", "CITY", "Asheville"]]
    examples = to_examples(TASKS["dart"], Table({"tripleset": [triples], "annotations": [annotations]}, "x"))
    assert list(examples.texts[1]) == ["One.", "Two."] and examples.labels.tolist() == [0, 0]
    assert examples.texts[0][0].splitlines()[1:3] == ["Mars Hill : LEVEL : High", "Mars Hill : CITY : Asheville"]


def test_gsm8k_holds_a_tenth_of_its_questions_out(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": f"so\n#### {i}"} for i in range(40)]
    data = folder(tmp_path / "gsm8k", train=rows, test=[{"question": "t", "answer": "#### 1"}])
    for _ in range(2):
        _, train, validation = registry.read(TaskSpec(name="gsm8k", data=data))
        held_out = [text for text in validation["validation"].texts[0]]
        assert (len(train), len(held_out)) == (36, 4)
        assert not set(held_out) & set(train.texts[0]) and "Question: t\nAnswer:" not in held_out
    assert len({*held_out, *train.texts[0]}) == 40


def test_own_data(tmp_path: Path) -> None:
    path = tiny_language_models.write(tmp_path / "x.jsonl", [{"q": f"p{i // 2}", "a": f"c{i}"} for i in range(40)])
    spec = TaskSpec(name="mine", data=path, prompt="q", completion="a")
    task, train, validation = registry.read(spec)
    assert resolve(spec) == task
    assert own_task("mine", ("q",), "a").metrics == ("likelihood", "token_accuracy", "rougeL", "exact_match", "bleu")
    assert task.metrics == ("likelihood", "token_accuracy")
    held_out = validation["validation"]
    assert (len(train), len(held_out)) == (36, 4)  # 2 of 20 prompts, with both completions
    assert not set(held_out.texts[0]) & set(train.texts[0]) and len(set(held_out.texts[0])) == 2


def test_a_metric_as_the_score(tmp_path: Path) -> None:
    assert resolve(TaskSpec(name="mrpc", metric="f1")).metrics == ("f1", "accuracy")
    assert resolve(TaskSpec(name="dialogsum", metric="rouge2")).metrics == ("rouge2", "rouge", "rouge1", "rougeL")
    path = tiny_language_models.write(tmp_path / "x.jsonl", tiny_language_models.rows(30))
    spec = TaskSpec(name="mine", data=path, prompt="asked", completion="told", metric="bleu")
    assert registry.read(spec)[0].metrics == ("bleu", "rougeL", "exact_match")
    final = spec.model_copy(update={"final": True})
    assert registry.read(final)[0].metrics == ("bleu", "rougeL", "exact_match")
    assert resolve(TaskSpec(name="e2e", metric="rouge1")).metrics == ("rouge1", "bleu", "rougeL")
    forward = TaskSpec(name="e2e", metric="token_accuracy")
    assert resolve(forward).metrics == ("token_accuracy", "likelihood")
    final = forward.model_copy(update={"final": True})
    assert resolve(final).metrics == ("token_accuracy", "likelihood", "bleu", "rougeL")
    with pytest.raises(AutorankError, match="Unknown metric of e2e 'rougeLsum'"):
        resolve(TaskSpec(name="e2e", metric="rougeLsum"))
    with pytest.raises(AutorankError) as caught:
        resolve(TaskSpec(name="mrpc", metric="bleu"))
    assert "Unknown metric of mrpc 'bleu'" in str(caught.value) and "accuracy, f1" in str(caught.value)


def test_conversations_are_held_out_by_their_context(tmp_path: Path) -> None:
    def row(i: int) -> dict[str, Any]:
        turns = [("user", f"q{i // 2}"), ("assistant", "a"), ("user", "and?"), ("assistant", f"b{i}")]
        return {"chat": [{"role": role, "content": text} for role, text in turns], "tools": [{"name": "f"}]}

    path = tiny_language_models.write(tmp_path / "x.jsonl", [row(i) for i in range(40)])
    task, train, validation = registry.read(TaskSpec(name="mine", data=path, messages="chat"))
    assert task.metrics == ("likelihood", "token_accuracy") and task.kind.name == "generation"
    held_out = validation["validation"]
    assert (len(train), len(held_out)) == (36, 4) and not set(train.labels) & set(held_out.labels)
    conversations = [Conversation.loads(text) for text in held_out.texts[0]]
    assert [conversation.reference for conversation in conversations] == held_out.references
    assert all(
        conversation.tools == [{"name": "f"}] and conversation.trained == [False, True, False, True]
        for conversation in conversations
    )
    (without_tools,) = registry.read(TaskSpec(name="mine", data=tiny_language_models.write(tmp_path / "y.jsonl", [
        {"chat": row(i)["chat"]} for i in range(40)]), messages="chat"))[2].values()  # fmt: skip
    assert Conversation.loads(without_tools.texts[0][0]).tools is None


def test_a_column_of_system_messages_is_read(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    rows = [{"conversations": turns, "system": None if i % 2 else f"s{i}"} for i in range(20)]
    path = tiny_language_models.write(tmp_path / "x.jsonl", rows)
    _, train, validation = registry.read(TaskSpec(name="mine", data=path, messages="conversations"))
    conversations = [*train.texts[0], *validation["validation"].texts[0]]
    first = [Conversation.loads(text).messages[0] for text in conversations]
    systems = [message["content"] for message in first if message["role"] == "system"]
    assert sorted(systems) == sorted(f"s{i}" for i in range(0, 20, 2)) and len(first) == 20


def test_rows_without_a_conversation_are_listed(tmp_path: Path) -> None:
    good = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    rows = [good, None, good[:1], "text", good, good[:1]]
    path = tiny_language_models.write(tmp_path / "x.jsonl", [{"m": value} for value in rows])
    with pytest.raises(AutorankError) as caught:
        registry.read(TaskSpec(name="x", data=path, messages="m"))
    assert "'m' is not a list of messages: rows 2, 4 (2" in str(caught.value)
    assert "no message of the assistant to learn from: rows 3, 6 (2" in str(caught.value)


def test_several_prompt_columns_are_joined(tmp_path: Path) -> None:
    rows = [{"i": f"Add {n}.", "x": x, "o": "yes"} for n, x in enumerate(["1 2", "", None, "  "] * 5)]
    spec = TaskSpec(
        name="x", data=tiny_language_models.write(tmp_path / "x.jsonl", rows), prompt=("i", "x"), completion="o"
    )
    _, train, validation = registry.read(spec)
    prompts = {*train.texts[0], *validation["validation"].texts[0]}
    assert {"Add 0.\n\n1 2", "Add 1.", "Add 2.", "Add 3."} <= prompts and len(prompts) == 20


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"messages": [], "text": "x"}, {"messages": "messages"}),
        ({"conversations": [], "id": 1}, {"messages": "conversations"}),
        ({"instruction": "", "input": "", "output": ""}, {"prompt": ("instruction", "input"), "completion": "output"}),
        ({"instruction": "", "output": ""}, {"prompt": ("instruction",), "completion": "output"}),
        ({"prompt": "", "completion": ""}, {"prompt": ("prompt",), "completion": "completion"}),
        ({"text": "", "label": ""}, {}),
    ],
)
def test_common_columns_are_detected(row: dict[str, Any], columns: dict[str, Any], tmp_path: Path) -> None:
    path = tiny_language_models.write(tmp_path / "x.jsonl", [row] * 3)
    assert detect_columns(str(path), None) == columns
    options = TrainCall(data=path, method="lora")
    if columns:
        assert options.task_spec() == TaskSpec(name="x", data=str(path), **columns)
    else:
        with pytest.raises(AutorankError, match="or with --messages COL"):
            options.task_spec()


def test_the_default_model_of_own_data_is_open() -> None:
    for columns in ({"prompt": "a", "completion": "b"}, {"messages": "m"}):
        assert registry.base_model(TaskSpec(name="x", data="x.csv", **columns)) == OWN_MODEL == "Qwen/Qwen3-0.6B-Base"
    assert resolve(TaskSpec(name="e2e")).model == "meta-llama/Llama-2-7b-hf"


def test_whole_prompts_are_held_out() -> None:
    prompts = np.repeat(np.arange(20), np.arange(20) % 4 + 1)
    held_out = TASKS["e2e"].kind.tune_part(TASKS["e2e"], prompts, 0.25)
    assert len(set(prompts[held_out])) == 5
    assert not set(prompts[held_out]) & set(np.delete(prompts, held_out))
    assert TASKS["e2e"].kind.tune_part(TASKS["e2e"], prompts, 0.25).tolist() == held_out.tolist()
    assert len(whole_prompts(np.array([7, 7, 8]), 0.1, 0)) in (1, 2)
    with pytest.raises(AutorankError, match="two different prompts"):
        whole_prompts(np.zeros(9), 0.1, 0)


def test_all_invalid_rows_are_listed(tmp_path: Path) -> None:
    rows = [
        {"q": "a", "a": "b"}, {"q": None, "a": "b"}, {"q": "c", "a": " "}, {"q": "c", "a": None}, {"q": 3, "a": "b"},
        {"q": "c", "a": ""},
    ]  # fmt: skip
    with pytest.raises(AutorankError) as caught:
        registry.read(
            TaskSpec(name="x", data=tiny_language_models.write(tmp_path / "x.jsonl", rows), prompt="q", completion="a")
        )
    for words in (
        "'q' is null: row 2 (1",
        "'a' is empty: rows 3, 6 (2",
        "'a' is null: row 4",
        "'q' is not text: row 5",
    ):
        assert words in str(caught.value)


def test_gsm8k_needs_answers(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": text} for text in ("#### 1", "2", "#### three", "#### 4")]
    with pytest.raises(AutorankError, match=r"no answer after '####': rows 2, 3 \(2 in all\)"):
        registry.read(TaskSpec(name="gsm8k", data=folder(tmp_path / "gsm8k", train=rows)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "x", "prompt": "a", "data": "x.csv"}, ["--completion is missing"]),
        ({"name": "x", "completion": "a", "data": "x.csv"}, ["--prompt is missing"]),
        ({"name": "x", "prompt": "a", "completion": "b"}, ["--data FILE"]),
        ({"name": "x", "messages": "m"}, ["--data FILE"]),
        (
            {"name": "x", "messages": "m", "prompt": "a", "data": "x.csv"},
            ["cannot be combined with --prompt"],
        ),
        ({"name": "x", "messages": "m", "chat": False, "data": "x.csv"}, ["chat template", "Omit --no-chat"]),
        ({"name": "x", "prompt": "a", "completion": "a", "data": "x.csv"}, ["both --prompt and --completion"]),
        (
            {"name": "x", "prompt": "a", "completion": "b", "text": ("c",), "data": "x.csv"},
            ["cannot be combined with --text"],
        ),
        (
            {"name": "e2e"},
            ["cannot be loaded from the Hub", "--data DIR", "train, validation", "meaning_representation"],
        ),
        ({"name": "mrpc", "chat": True, "data": "x"}, ["text-to-text tasks only; 'mrpc' is classification"]),
    ],
)
def test_specs_that_do_not_go_together(spec: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    if spec["name"] == "mrpc":
        rows = [{"sentence1": "a", "sentence2": "b", "label": i} for i in (0, 1)]
        spec = spec | {"data": folder(tmp_path / "mrpc", train=rows, validation=rows)}
    with pytest.raises(AutorankError) as caught:
        registry.read(TaskSpec(**spec))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_dart_from_jsonl(tmp_path: Path) -> None:
    """DART's columns through jsonl, as a user would convert it."""
    rows = [{"tripleset": [["a", "b", str(i)]], "annotations": {"source": ["s"], "text": [f"t{i}"]}} for i in range(3)]
    _, train, validation = registry.read(
        TaskSpec(name="dart", data=folder(tmp_path / "dart", train=rows, validation=rows[:1]))
    )
    assert (len(train), len(validation["validation"])) == (3, 1)
    assert json.dumps(train.references) == '["t0", "t1", "t2"]'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"\n', "line 2: not valid JSON"),
        (b'{"prompt": "caf\xe9"}\n', "is not UTF-8: line 1"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a pointer of Git LFS"),
        (b"", "is empty"),
    ],
)
def test_a_broken_file_is_not_reported_as_a_missing_task(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(AutorankError, match=words):
        TrainCall(data=tmp_path / "x.jsonl", method="lora").task_spec()
