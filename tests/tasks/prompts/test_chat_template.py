"""Turns of the assistant in a chat template's text, compared with the same text assembled by hand."""

from __future__ import annotations

from typing import Any

import pytest

from autorank.tasks.prompts.chat_template import ChatTemplate, UnclearTemplate
from autorank.tasks.prompts.conversation import read
from tests import chat_templates


def dialog(*texts: str, system: str | None = None) -> list[dict[str, Any]]:
    """Messages, the user first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]}  # fmt: skip
TOOLS = [{"role": "user", "content": "1 + 1?"}, CALL, {"role": "tool", "content": "2"},
         {"role": "assistant", "content": "It is 2."}]  # fmt: skip
CONVERSATIONS = {
    "one turn": dialog("What?", "That."),
    "three turns": dialog("a", "b", "What is\n\nthe answer?", "The answer\n\nis: it", "c", "d"),
    "equal texts": dialog("yes", "yes", "yes", "yes"),
    "texts that occur in the template": dialog("assistant\n", "user\n", "model\n", "<|im_start|> assistant"),
    "a system message": dialog("What?", "That.", "And?", "This.", system="Be brief."),
    "white space": dialog(" What? \n", "\n That \n\n", "And?", "  This. "),
    "scripts": dialog("今天天气怎么样?", "很好 😀", "Привет", "日本語 é"),
    "thoughts": dialog("a", "<think>\nhm\n</think>\n\nb", "c", "<think>\nso\nso\n</think>\n\nd"),
    "a tool": TOOLS,
    "a tool, and on": [*TOOLS, *dialog("And 2 + 2?", "4.")],
}
REFUSED = {
    ("gemma", "a system message"): "System role not supported", ("mistral", "a tool"): "Roles must alternate",
    ("mistral", "a tool, and on"): "Roles must alternate",
}  # fmt: skip
WITHOUT_TOOLS = ("chatml", "gemma")
FAMILY_AND_CONVERSATION = [
    (family, name) for family in chat_templates.FAMILIES for name in CONVERSATIONS
    if not (family in WITHOUT_TOOLS and "tool" in name)
]  # fmt: skip


@pytest.mark.parametrize(("family", "name"), FAMILY_AND_CONVERSATION)
def test_turns_are_the_expected_ones(family: str, name: str) -> None:
    messages = CONVERSATIONS[name]
    template = ChatTemplate(chat_templates.tokenizer(family))
    if reason := REFUSED.get((family, name)):
        with pytest.raises(UnclearTemplate, match=reason):
            template.turns(read(messages))
        return
    text, turns = template.turns(read(messages))
    pieces = chat_templates.BY_HAND[family](messages)
    assert text == "".join(piece for piece, _ in pieces)
    assert text == template.tokenizer.apply_chat_template(messages, tokenize=False)
    assert [text[start:end] for start, end in turns] == [piece for piece, included in pieces if included]
    assert sum(end - start for start, end in turns) == sum(len(piece) for piece, included in pieces if included)
    assert template.end == chat_templates.END[family]


def test_generation_marks_of_the_template_are_used() -> None:
    source = chat_templates.CHATML.replace(
        "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}",
        "{{ '<|im_start|>' ~ m.role ~ '\\n' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content ~ '<|im_end|>\\n' }}{% endgeneration %}"
        "{% else %}{{ m.content ~ '<|im_end|>\\n' }}{% endif %}",
    )
    template = ChatTemplate(chat_templates.tokenizer("chatml", template=source))
    text, turns = template.turns(read(dialog("a", "b", "c", "d")))
    assert [text[start:end] for start, end in turns] == ["b<|im_end|>\n", "d<|im_end|>\n"]
    messages = dialog("a", "b", "c", "d")
    messages[1]["weight"] = 0
    text, turns = template.turns(read(messages))
    assert [text[start:end] for start, end in turns] == ["d<|im_end|>\n"]


def test_turns_without_weight_are_left_out() -> None:
    messages = dialog("a", "b", "c", "d", "e", "f")
    messages[1]["weight"] = messages[5]["weight"] = 0
    text, turns = ChatTemplate(chat_templates.tokenizer("llama3")).turns(read(messages))
    assert [text[start:end] for start, end in turns] == ["d<|eot_id|>"]
    assert text.endswith("d<|eot_id|>")  # what comes after it has no loss


def test_a_conversation_that_the_assistant_begins() -> None:
    messages = [{"role": "assistant", "content": "Hello."}, *dialog("a", "b")]
    text, turns = ChatTemplate(chat_templates.tokenizer("chatml")).turns(read(messages))
    assert [text[start:end] for start, end in turns] == ["Hello.<|im_end|>", "b<|im_end|>"]


def test_a_generation_prompt_that_conversations_lack() -> None:
    """As in DeepSeek-R1: the prompt opens a thought; a turn without thoughts starts where the prompt differs."""
    prompt = "'<|im_start|>assistant\\n' }}{% endif"
    source = chat_templates.CHATML.replace(prompt, prompt.replace("\\n'", "\\n<think>\\n'"))
    template = ChatTemplate(chat_templates.tokenizer("chatml", template=source))
    text, turns = template.turns(read(dialog("a", "<b", "c", "<think>\nd")))
    assert [text[start:end] for start, end in turns] == ["<b<|im_end|>", "d<|im_end|>"]


def test_a_turn_that_ends_with_white_space_alone_keeps_it() -> None:
    source = (
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    template = ChatTemplate(chat_templates.tokenizer("chatml", template=source))
    text, turns = template.turns(read(dialog("a", "b", "c", "d")))
    assert [text[start:end] for start, end in turns] == ["b\n", "d\n"] and template.end == ""


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "turn of its own"),
        ("{% for m in messages %}{{ m.content | upper }};{% endfor %}", None),
        ("{% for m in messages | reverse %}{{ m.role }}:{{ m.content }};{% endfor %}", "generation prompt is not how"),
        ("{% for m in messages %}{{ loop.revindex }}{{ m.content }};{% endfor %}", "generation prompt is not how"),
        ("{% for m in messages %}{{ m.name.first }}{% endfor %}", "refuses it"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}{% generation %}{% endgeneration %}", "marks no text"),
    ],
)  # fmt: skip
def test_templates_with_unclear_turns(template: str, reason: str | None) -> None:
    chat = ChatTemplate(chat_templates.tokenizer("chatml", template=template))
    if reason is None:  # it changes texts, but turns are where they are
        text, turns = chat.turns(read(dialog("a", "b", "c", "d")))
        assert [text[start:end] for start, end in turns] == ["B;", "D;"]
        return
    with pytest.raises(UnclearTemplate, match=reason):
        chat.turns(read(dialog("a", "b", "c", "d")))


def test_a_template_that_always_opens_the_next_turn() -> None:
    source = chat_templates.CHATML.replace("{%- if add_generation_prompt %}", "").replace("{% endif %}", "")
    with pytest.raises(UnclearTemplate, match="after the last message"):
        _ = ChatTemplate(chat_templates.tokenizer("chatml", template=source)).end
