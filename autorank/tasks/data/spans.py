"""Extractive question answering: the answer is a span of a context, which is read in windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import Columns, Examples, rows
from autorank.tasks.definition import Split, Task

STRIDE = 128  # tokens that two windows of a context share (BERT's SQuAD); a third of the window at most
SHORTEST = 24  # tokens of a window: a question, as many to share, and some more of the context
CHUNK = 1_000  # questions tokenised at a time


class Reference(NamedTuple):
    """What a prediction is cut from and compared with. Without answers the context does not tell."""

    context: str
    answers: list[str]
    starts: list[int]  # of the answers, characters of the context


@dataclass(frozen=True, kw_only=True)
class Windows(Split):
    """A row a window: [CLS] question [SEP] part of the context [SEP]. Its examples are questions.

    `labels` are the first and the last token of the question's first answer, int64, `windows x 2`; twice `null` where
    the window does not hold all of it. `references`: a `Reference` a question.

    Attributes:
        owner: int64, `windows`: number of the question, rising.
        null: int64, `windows`: the token that stands for no answer: [CLS], or the first where there is no such token.
        starts: int32, `tokens`: where a token of the context begins, in characters of it; -1 for all other tokens.
        ends: likewise, where it ends.
    """

    owner: np.ndarray
    null: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    RAGGED: ClassVar[dict[str, str]] = Split.RAGGED | {"starts": "offsets", "ends": "offsets"}

    @property
    def examples(self) -> int:
        """Questions."""
        assert self.references is not None
        return len(self.references)

    def take(self, indices: np.ndarray) -> Self:
        """The windows of the questions at these rising indices."""
        if len(indices) == self.examples:
            return self
        assert self.references is not None
        place = np.full(self.examples, -1)
        place[indices] = np.arange(len(indices))
        taken = replace(self, references=None)._rows(np.flatnonzero(place[self.owner] >= 0))
        return replace(taken, owner=place[taken.owner], references=[self.references[i] for i in indices])

    @property
    def strata(self) -> np.ndarray:
        """1 where a window holds an answer, else 0: int64, `windows`."""
        answered: np.ndarray = self.labels[:, 0] != self.null
        return answered.astype(np.int64)

    def context(self, windows: np.ndarray, width: int) -> np.ndarray:
        """Which tokens of these windows, padded to `width`, are the context's: bool, `windows x width`."""
        where = self.offsets[windows][:, None] + np.arange(width)
        real: np.ndarray = where < self.offsets[windows + 1][:, None]
        return real & (self.starts[np.where(real, where, 0)] >= 0)


def checked(task: Task, columns: Columns, where: str) -> Examples:
    """Questions and contexts with their answers, {"text": [...], "answer_start": [...]}, as in SQuAD.

    labels: 1 where a question has an answer, else 0.

    Raises:
        AutorankError: answers of another form, an answer that is not in the context where it should begin, or a
            question without any if the task has none such.
    """
    name, contexts, column = task.label, columns[task.text[1]], columns[task.label]
    wrong = [i for i, one in enumerate(column) if not _sound(one)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {where} must hold {{'text': [...], 'answer_start': [...]}}, a start for each text, "
            f"but {rows(wrong)} (counted from 1, {len(wrong)} in all) has {str(column[wrong[0]])[:80]!r}. Correct "
            "these rows; csv cannot hold answers: use jsonl or parquet."
        )
    same: dict[str, str] = {}  # a context has several questions; it is kept once
    references = [
        Reference(same.setdefault(context, context), list(one["text"]), list(map(int, one["answer_start"])))
        for context, one in zip(contexts, column, strict=True)
    ]
    astray = [i for i, one in enumerate(references) if not _within(one)]
    if astray:
        first = references[astray[0]]
        raise AutorankError(
            f"Column {name!r} of {where} has answers that are not in the context where answer_start says (in "
            f"characters from 0): {rows(astray)} (counted from 1, {len(astray)} in all), the first with "
            f"{first.answers} at {first.starts}. Correct these rows or take them out."
        )
    none = [i for i, one in enumerate(references) if not one.answers]
    if none and not task.unanswerable:
        raise AutorankError(
            f"Column {name!r} of {where} has no answer in {rows(none)} (counted from 1, {len(none)} in all). Task "
            f"{task.name!r} has an answer to every question; --task squad_v2 has questions without."
        )
    labels = np.array([len(one.answers) > 0 for one in references], np.int64)
    return Examples((columns[task.text[0]], [one.context for one in references]), labels, references)


def tag(length: int) -> str:
    """Names the settings by which windows are made."""
    return f"windows {length} {_stride(length)}"


def check(model: str, tokenizer: Any, length: int) -> None:
    """That windows of this length can be made.

    Raises:
        AutorankError: the tokenizer does not tell where its tokens lie in the text, or windows are too short.
    """
    if not tokenizer.is_fast:
        raise AutorankError(
            f"The tokenizer of {model!r} ({type(tokenizer).__name__}) does not tell where its tokens lie in the text, "
            "by which answers are found. Use a model with a fast tokenizer (tokenizer.json)."
        )
    if length < SHORTEST:
        raise AutorankError(
            f"{length} tokens are too few for a question and a part of its context. Use --max-length {SHORTEST} or "
            "more (384 is usual), and a model that takes as many."
        )


def tokenise(examples: Examples, tokenizer: Any, length: int) -> Windows:
    """All questions with their contexts, cut into windows of at most `length` tokens.

    The question comes first, for in a decoder the context must follow it. It is cut at a third of the window.
    """
    assert examples.references is not None
    ids, types, starts, ends, owner, null, labels = [], [], [], [], [], [], []
    for begin in range(0, len(examples), CHUNK):
        questions, contexts = (list(column[begin : begin + CHUNK]) for column in examples.texts)
        made = tokenizer(
            _cut(questions, tokenizer, length // 3), contexts, truncation="only_second", max_length=length,
            stride=_stride(length), return_overflowing_tokens=True, return_offsets_mapping=True,
            return_attention_mask=False, verbose=False,
        )  # fmt: skip
        for i, question in enumerate(made["overflow_to_sample_mapping"]):
            tokens = made["input_ids"][i]
            inside = np.array([part == 1 for part in made.sequence_ids(i)])
            first, last = np.where(inside, np.array(made["offset_mapping"][i]).T, -1)
            cls = tokenizer.cls_token_id
            place = tokens.index(cls) if cls is not None and cls in tokens else 0
            ids.append(np.array(tokens, np.int32))
            starts.append(first.astype(np.int32))
            ends.append(last.astype(np.int32))
            owner.append(begin + question)
            null.append(place)
            labels.append(_span(first, last, examples.references[begin + question]) or (place, place))
            if "token_type_ids" in made:
                types.append(np.array(made["token_type_ids"][i], np.int8))
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(list(map(len, ids)), out=offsets[1:])
    return Windows(
        np.concatenate(ids), np.concatenate(types) if types else None, offsets, np.array(labels, np.int64),
        examples.references, owner=np.array(owner, np.int64), null=np.array(null, np.int64),
        starts=np.concatenate(starts), ends=np.concatenate(ends),
    )  # fmt: skip


def _stride(length: int) -> int:
    return min(STRIDE, length // 3)


def _cut(questions: Sequence[str], tokenizer: Any, longest: int) -> list[str]:
    """Questions of at most about `longest` tokens, without blanks around them: SQuAD has questions that are all but."""
    stripped = [question.strip() for question in questions]
    made = tokenizer(
        stripped, add_special_tokens=False, truncation=True, max_length=longest, return_offsets_mapping=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    places = made["offset_mapping"]
    return [
        text[: place[-1][1]] if len(place) == longest else text for text, place in zip(stripped, places, strict=True)
    ]


def _span(starts: np.ndarray, ends: np.ndarray, reference: Reference) -> tuple[int, int] | None:
    """First and last token of the first answer, if the window holds all of it. starts, ends: tokens, -1 outside."""
    context = np.flatnonzero(starts >= 0)
    if not reference.answers or not len(context):
        return None
    text = reference.answers[0]
    begin = reference.starts[0] + len(text) - len(text.lstrip())
    end = begin + len(text.strip())
    starts, ends = starts[context], ends[context]
    if starts[0] > begin or ends[-1] < end:
        return None
    # the tokens that share a character with the answer: some tokenizers' tokens begin with the blank before the word
    first, last = np.searchsorted(ends, begin, "right"), np.searchsorted(starts, end, "left") - 1
    return (int(context[first]), int(context[last])) if first <= last else None


def _sound(answers: Any) -> bool:
    """Whether this is {"text": [...], "answer_start": [...]}."""
    if not isinstance(answers, dict):
        return False
    texts, starts = answers.get("text"), answers.get("answer_start")
    return (
        isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
    )  # fmt: skip


def _within(reference: Reference) -> bool:
    """Whether each answer is some text, and is where it should be."""
    return all(
        text.strip() and start >= 0 and reference.context.startswith(text, start)
        for text, start in zip(reference.answers, reference.starts, strict=True)
    )
