"""Chat templates of five families with their special tokens, and functions that render the same messages by hand.

The templates are written for these tests. They follow the families in the tokens, the names of the roles, the place of
system messages and tools, what is trimmed, and which earlier thoughts are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Messages = list[dict[str, Any]]
Pieces = list[tuple[str, bool]]  # text, and whether the loss includes it

CHATML = """\
{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """\
{{- bos_token }}
{%- for m in messages %}
  {{- '<|start_header_id|>' ~ ('ipython' if m.role == 'tool' else m.role) ~ '<|end_header_id|>\\n\\n' }}
  {%- if m.tool_calls %}
    {%- set call = m.tool_calls[0].function %}
    {{- '{"name": "' ~ call.name ~ '", "parameters": ' ~ call.arguments | tojson ~ '}' }}
  {%- else %}{{ m.content | trim }}{% endif %}
  {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

MISTRAL = """\
{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{%- set turns = messages[1:] if system is not none else messages %}
{{- bos_token }}
{%- for m in turns %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
  {%- if m.role == 'user' and system is not none and m == (turns | selectattr('role', 'equalto', 'user') | list)[-1] %}
    {{- '[INST] ' ~ system ~ '\\n\\n' ~ m.content ~ '[/INST]' }}
  {%- elif m.role == 'user' %}{{ '[INST] ' ~ m.content ~ '[/INST]' }}
  {%- else %}{{ ' ' ~ m.content | trim ~ eos_token }}{% endif %}
{%- endfor %}"""

GEMMA = """\
{{- bos_token }}
{%- for m in messages %}
  {%- if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
  {{- '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\\n' ~ m.content | trim }}
  {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

QWEN3 = """\
{%- if tools %}{{ '<|im_start|>system\\n' ~ tools | tojson ~ '<|im_end|>\\n' }}{% endif %}
{%- set last = namespace(query=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.query = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
  {%- if m.role == 'tool' %}
    {{- '<|im_start|>user\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response><|im_end|>\\n' }}
  {%- elif m.role != 'assistant' %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}
  {%- else %}
    {%- set thought, content = m.reasoning_content or '', m.content %}
    {%- if '</think>' in content %}
      {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.index0 > last.query and (loop.last or thought) %}
      {{- '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content }}
    {%- for call in m.tool_calls or [] %}{{ '<tool_call>\\n' ~ call.function | tojson ~ '\\n</tool_call>' }}{% endfor %}
    {{- '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# family -> template, special tokens (the first is bos, the second eos), tokens that are not special
FAMILIES: dict[str, tuple[str, list[str], list[str]]] = {
    "chatml": (CHATML, ["<s>", "<|im_end|>", "<|im_start|>"], []),
    "llama3": (LLAMA3, ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], []),
    "mistral": (MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], []),
    "gemma": (GEMMA, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], []),
    "qwen3": (QWEN3, ["<|endoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"]),
}
END = {
    "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "mistral": "</s>", "gemma": "<end_of_turn>", "qwen3": "<|im_end|>"
}  # fmt: skip


def tokenizer(family: str, folder: Path | None = None, template: str | None = None) -> Any:
    """A byte-level BPE tokenizer, which trims white space from offsets as GPT-2's and Llama 3's do."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    family_template, special_tokens, regular_tokens = FAMILIES[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder, backend.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<pad>", *special_tokens])
    backend.train_from_iterator(["assistant user system model the answer is what tool\n\n"] * 9, trainer)
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in regular_tokens])
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token=special_tokens[0], eos_token=special_tokens[1],
        model_max_length=512, additional_special_tokens=special_tokens[2:],
        chat_template=family_template if template is None else template,
    )  # fmt: skip
    if folder is not None:
        fast_tokenizer.save_pretrained(folder)
    return fast_tokenizer


def _chatml(messages: Messages) -> Pieces:
    pieces: Pieces = []
    for m in messages:
        from_assistant = m["role"] == "assistant"
        pieces += [(f"<|im_start|>{m['role']}\n", False), (f"{m['content']}<|im_end|>", from_assistant), ("\n", False)]
    return pieces


def _llama3(messages: Messages) -> Pieces:
    pieces: Pieces = [("<|begin_of_text|>", False)]
    for m in messages:
        role, text = {"tool": "ipython"}.get(m["role"], m["role"]), m["content"].strip()
        for call in m.get("tool_calls", []):
            text = json.dumps({"name": call["function"]["name"], "parameters": call["function"]["arguments"]})
        pieces.append((f"<|start_header_id|>{role}<|end_header_id|>\n\n", False))
        pieces.append((f"{text}<|eot_id|>", m["role"] == "assistant"))
    return pieces


def _mistral(messages: Messages) -> Pieces:
    system = "".join(f"{m['content']}\n\n" for m in messages if m["role"] == "system")
    turns = [m for m in messages if m["role"] != "system"]
    last = max(i for i, m in enumerate(turns) if m["role"] == "user")
    pieces: Pieces = [("<s>", False)]
    for i, m in enumerate(turns):
        if m["role"] == "user":
            pieces.append((f"[INST] {system if i == last else ''}{m['content']}[/INST]", False))
        else:
            pieces.append((f" {m['content'].strip()}</s>", True))
    return pieces


def _gemma(messages: Messages) -> Pieces:
    pieces: Pieces = [("<bos>", False)]
    for m in messages:
        from_assistant = m["role"] == "assistant"
        pieces.append((f"<start_of_turn>{'model' if from_assistant else m['role']}\n", False))
        pieces += [(f"{m['content'].strip()}<end_of_turn>", from_assistant), ("\n", False)]
    return pieces


def _qwen3(messages: Messages) -> Pieces:
    query = max(i for i, m in enumerate(messages) if m["role"] == "user")
    pieces: Pieces = []
    for i, m in enumerate(messages):
        from_assistant, role, text = m["role"] == "assistant", m["role"], m["content"]
        if role == "tool":
            role, text = "user", f"<tool_response>\n{text}\n</tool_response>"
        if from_assistant:
            thought = m.get("reasoning_content", "")
            if "</think>" in text:
                thought, _, text = (part.strip("\n") for part in text.removeprefix("<think>").partition("</think>"))
            if i > query and (thought or i == len(messages) - 1):
                text = f"<think>\n{thought}\n</think>\n\n{text}"
            for call in m.get("tool_calls", []):
                text += f"<tool_call>\n{json.dumps(call['function'])}\n</tool_call>"
        pieces += [(f"<|im_start|>{role}\n", False), (f"{text}<|im_end|>", from_assistant), ("\n", False)]
    return pieces


BY_HAND: dict[str, Callable[[Messages], Pieces]] = {
    "chatml": _chatml, "llama3": _llama3, "mistral": _mistral, "gemma": _gemma, "qwen3": _qwen3
}  # fmt: skip
