"""Tokens of conversations, and which of them are trained: against transformers' tokens of the same template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.tasks.data.batches import collate
from autorank.tasks.prompts.chat_encoding import ChatEncoding, text_ends
from autorank.tasks.prompts.conversation import Conversation, read
from autorank.tasks.splits.examples import Examples
from tests import chat_templates
from tests.tasks.prompts.test_chat_template import CONVERSATIONS, FAMILY_AND_CONVERSATION, REFUSED, dialog
from tests.tiny_language_models import IGNORED, library_batch


def encoding(family: str, length: int = 512, **options: Any) -> ChatEncoding:
    return ChatEncoding(chat_templates.tokenizer(family, **options), length)


def examples(*conversations: list[dict[str, Any]]) -> Examples:
    parsed = [read(messages) for messages in conversations]
    references = [conversation.reference for conversation in parsed]
    return Examples(([conversation.dumps() for conversation in parsed],), np.arange(len(parsed)), references)


@pytest.mark.parametrize(("family", "name"), [pair for pair in FAMILY_AND_CONVERSATION if pair not in REFUSED])
def test_tokens_are_the_templates_and_turns_the_expected_ones(family: str, name: str) -> None:
    """Tokens are those of transformers; the expected turns are compared with tokens byte by byte."""
    messages, chat = CONVERSATIONS[name], encoding(family)
    batch = library_batch(collate(chat.split(examples(messages)), np.array([0]), pad_id=0))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    full_ids = chat.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ids == full_ids[: len(ids)]
    assert not chat.tokenizer.decode(full_ids[len(ids) :]).strip()
    in_turn = [included for text, included in chat_templates.BY_HAND[family](messages) for _ in text.encode()]
    expected, position = [], 0
    for token in full_ids:
        size = (
            len(chat.tokenizer.decode([token]))
            if token in chat.tokenizer.added_tokens_decoder
            else len(chat.tokenizer.convert_ids_to_tokens(token))
        )  # in byte-level tokens, a character is a byte
        expected.append(token if any(in_turn[position : position + size]) else IGNORED)
        position += size
    assert position == len(in_turn)
    assert labels == expected[: len(labels)] and set(expected[len(labels) :]) <= {IGNORED}


@pytest.mark.parametrize("family", chat_templates.FAMILIES)
def test_text_ends_are_the_ends_of_turns(family: str) -> None:
    tokenizer = chat_templates.tokenizer(family)
    ends = tokenizer.convert_ids_to_tokens(text_ends(tokenizer))
    assert ends == list(dict.fromkeys([tokenizer.eos_token, chat_templates.END[family]]))
    tokenizer.chat_template = None
    assert text_ends(tokenizer) == [tokenizer.eos_token_id]


def test_pairs_are_conversations_of_two_messages() -> None:
    chat = encoding("qwen3")
    pairs = Examples((["a", "b"], ["c", "d"]), np.arange(2), ["c", "d"])
    actual, expected = chat.split(pairs), chat.split(examples(dialog("a", "c"), dialog("b", "d")))
    for name in ("ids", "offsets", "target_ids", "target_offsets", "trained", "truncated"):
        assert np.array_equal(getattr(actual, name), getattr(expected, name)), name
    assert chat.tokenizer.decode(actual.target_ids[: actual.target_offsets[1]]) == "<think>\n\n</think>\n\nc<|im_end|>"


def test_weights_are_the_tokens_with_a_loss() -> None:
    split = encoding("llama3").split(examples(dialog("a", "b", "c", "d e"), dialog("a", "b")))
    labels = library_batch(collate(split, np.arange(2), pad_id=0))["labels"]
    assert split.weights.tolist() == labels.ne(IGNORED).sum(dim=1).tolist()
    assert split.weights[0] > split.target_lengths[0] and split.weights[1] == split.target_lengths[1]
    part = split.take(np.array([1]))
    assert part.weights.tolist() == split.weights[1:].tolist() and part.trained.sum() == 0


def test_white_space_is_trained_where_offsets_leave_it_out() -> None:
    """The tokenizer trims white space from offsets; tokens of white space alone still belong to their turn."""
    chat = encoding("chatml")
    offsets = chat.tokenizer("a   b", return_offsets_mapping=True)["offset_mapping"]
    assert any(start == end for start, end in offsets)
    (tokens,) = chat.encode([read(dialog("a", "a   b\n   ", "c", "   d\n   "))])
    assert chat.tokenizer.decode(tokens.target) == "   d\n   <|im_end|>"
    assert chat.tokenizer.decode(tokens.prompt[tokens.trained]) == "a   b\n   <|im_end|>"


def test_long_conversations_lose_their_oldest_exchanges() -> None:
    messages = dialog(*(f"question {i}" if i % 2 == 0 else f"answer {i}" for i in range(20)), system="Be brief.")
    chat = encoding("chatml", length=150)
    split = chat.split(examples(messages, dialog("q", "a")))
    assert split.truncated is not None and split.truncated.tolist() == [1, 0] and split.lengths.max() <= 150
    text = chat.tokenizer.decode(split.ids[: split.offsets[1]])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nquestion ")
    assert text.endswith("question 18<|im_end|>\n<|im_start|>assistant\n") and "question 0" not in text
    trained = split.ids[: split.offsets[1]][split.trained[: split.offsets[1]] == 1]
    assert chat.tokenizer.decode(trained).count("answer") == text.count("answer") > 0
    assert 150 - split.lengths[0] < 60  # no exchange was removed without need


def test_a_long_question_loses_its_beginning_and_a_long_answer_its_end() -> None:
    words = " ".join(f"w{i}" for i in range(200))
    chat = encoding("chatml", length=100)
    split = chat.split(examples(dialog(words, "a"), dialog("q", words)))
    assert split.lengths.max() <= 100 and split.truncated is not None and split.truncated.all()
    assert chat.tokenizer.decode(split.ids[: split.offsets[1]]).endswith("w199<|im_end|>\n<|im_start|>assistant\n")
    answer = chat.tokenizer.decode(split.target_ids[split.target_offsets[1] :])
    assert len(split.target_ids[split.target_offsets[1] :]) == 50 and words.startswith(answer)
    with pytest.raises(AutorankError, match="chat template alone needs more than"):
        encoding("chatml", length=8).split(examples(dialog(words, "a")))


def test_refusals_of_a_template_are_listed_once_per_reason() -> None:
    bad, good = dialog("What?", "That.", system="Be brief."), dialog("a", "b")
    with pytest.raises(AutorankError) as caught:
        encoding("gemma").split(examples(bad, good, bad))
    for words in ("System role not supported (2 in all; the first begins with 'Be brief.')", "{% generation %}"):
        assert words in str(caught.value)


def test_the_tag_depends_on_the_template() -> None:
    base, other = (
        encoding("chatml").tokenization,
        encoding("chatml", template=chat_templates.CHATML + "{# #}").tokenization,
    )
    assert base.tag != other.tag and base.ends == (2,)


def test_conversations_survive_the_cache(tmp_path: Path) -> None:
    from autorank.tasks.data import arrow
    from autorank.tasks.data.pairs import Conversations

    split = encoding("llama3").split(examples(dialog("a", "b", "c", "d e"), dialog("a", "b")))
    arrow.write(split, tmp_path / "x.arrow")
    cached = arrow.read(tmp_path / "x.arrow", Conversations)
    assert cached is not None and np.array_equal(cached.trained, split.trained)
    assert np.array_equal(cached.weights, split.weights)
    assert Conversation.loads(read(dialog("a", "b")).dumps()) == read(dialog("a", "b"))
