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
from tests import templates
from tests.tasks.prompts.test_chat_template import CONVERSATIONS, FAMILY_AND_CONVERSATION, REFUSED, dialog
from tests.texts import IGNORED, library_batch


def encoding(family: str, length: int = 512, **given: Any) -> ChatEncoding:
    return ChatEncoding(templates.tokenizer(family, **given), length)


def examples(*conversations: list[dict[str, Any]]) -> Examples:
    read_all = [read(messages) for messages in conversations]
    references = [conversation.reference for conversation in read_all]
    return Examples(([conversation.dumps() for conversation in read_all],), np.arange(len(read_all)), references)


@pytest.mark.parametrize(("family", "name"), [pair for pair in FAMILY_AND_CONVERSATION if pair not in REFUSED])
def test_tokens_are_the_templates_and_turns_those_by_hand(family: str, name: str) -> None:
    """The whole text as transformers tokenizes it; which tokens are in turns is counted in bytes."""
    messages, chat = CONVERSATIONS[name], encoding(family)
    batch = library_batch(collate(chat.split(examples(messages)), np.array([0]), pad_id=0))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    whole = chat.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ids == whole[: len(ids)]
    assert not chat.tokenizer.decode(whole[len(ids) :]).strip()
    ours = [mine for text, mine in templates.BY_HAND[family](messages) for _ in text.encode()]
    expected, place = [], 0
    for token in whole:
        size = (
            len(chat.tokenizer.decode([token]))
            if token in chat.tokenizer.added_tokens_decoder
            else len(chat.tokenizer.convert_ids_to_tokens(token))
        )  # of byte-level tokens, a character is a byte
        expected.append(token if any(ours[place : place + size]) else IGNORED)
        place += size
    assert place == len(ours)
    assert labels == expected[: len(labels)] and set(expected[len(labels) :]) <= {IGNORED}


@pytest.mark.parametrize("family", templates.FAMILIES)
def test_texts_end_where_a_turn_does(family: str) -> None:
    tokenizer = templates.tokenizer(family)
    ends = tokenizer.convert_ids_to_tokens(text_ends(tokenizer))
    assert ends == list(dict.fromkeys([tokenizer.eos_token, templates.END[family]]))
    tokenizer.chat_template = None
    assert text_ends(tokenizer) == [tokenizer.eos_token_id]


def test_pairs_are_conversations_of_two_messages() -> None:
    chat = encoding("qwen3")
    pairs = Examples((["a", "b"], ["c", "d"]), np.arange(2), ["c", "d"])
    ours, theirs = chat.split(pairs), chat.split(examples(dialog("a", "c"), dialog("b", "d")))
    for name in ("ids", "offsets", "target_ids", "target_offsets", "trained", "cut"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert chat.tokenizer.decode(ours.target_ids[: ours.target_offsets[1]]) == "<think>\n\n</think>\n\nc<|im_end|>"


def test_weights_are_the_tokens_with_a_loss() -> None:
    split = encoding("llama3").split(examples(dialog("a", "b", "c", "d e"), dialog("a", "b")))
    labels = library_batch(collate(split, np.arange(2), pad_id=0))["labels"]
    assert split.weights.tolist() == labels.ne(IGNORED).sum(dim=1).tolist()
    assert split.weights[0] > split.target_lengths[0] and split.weights[1] == split.target_lengths[1]
    taken = split.take(np.array([1]))
    assert taken.weights.tolist() == split.weights[1:].tolist() and taken.trained.sum() == 0


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
    assert split.cut is not None and split.cut.tolist() == [1, 0] and split.lengths.max() <= 150
    text = chat.tokenizer.decode(split.ids[: split.offsets[1]])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nquestion ")
    assert text.endswith("question 18<|im_end|>\n<|im_start|>assistant\n") and "question 0" not in text
    trained = split.ids[: split.offsets[1]][split.trained[: split.offsets[1]] == 1]
    assert chat.tokenizer.decode(trained).count("answer") == text.count("answer") > 0
    assert 150 - split.lengths[0] < 60  # no more than an exchange was left out without need


def test_a_long_question_loses_its_beginning_and_a_long_answer_its_end() -> None:
    words = " ".join(f"w{i}" for i in range(200))
    chat = encoding("chatml", length=100)
    split = chat.split(examples(dialog(words, "a"), dialog("q", words)))
    assert split.lengths.max() <= 100 and split.cut is not None and split.cut.all()
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


def test_the_template_is_part_of_the_identity() -> None:
    one, other = encoding("chatml").tokenization, encoding("chatml", template=templates.CHATML + "{# #}").tokenization
    assert one.tag != other.tag and one.ends == (2,)


def test_conversations_survive_the_cache(tmp_path: Path) -> None:
    from autorank.tasks.data import arrow
    from autorank.tasks.data.pairs import Conversations

    split = encoding("llama3").split(examples(dialog("a", "b", "c", "d e"), dialog("a", "b")))
    arrow.write(split, tmp_path / "x.arrow")
    found = arrow.read(tmp_path / "x.arrow", Conversations)
    assert found is not None and np.array_equal(found.trained, split.trained)
    assert np.array_equal(found.weights, split.weights)
    assert Conversation.loads(read(dialog("a", "b")).dumps()) == read(dialog("a", "b"))
