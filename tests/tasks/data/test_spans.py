"""Windows of questions and contexts: their tokens and labels, the windows of a subset, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load
from autorank.tasks.data import windows
from autorank.tasks.data.columns import to_examples
from autorank.tasks.data.spans import Reference
from autorank.tasks.data.windows import Windows
from autorank.tasks.named.squad import SQUAD
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table
from autorank.tasks.tokenization import load_tokenizer
from tests import tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")

CLS, SEP = 2, 3
V1, V2 = SQUAD["squad_v1"], SQUAD["squad_v2"]


@pytest.fixture(scope="module")
def tokenizer(model: str) -> Any:
    return load_tokenizer(model)


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ("question", "context", "answers")}


def examples(count: int = 40, unanswerable: bool = True) -> Examples:
    return to_examples(V2, Table(columns(tiny_models.questions(count, unanswerable=unanswerable)), "x"))


def one_example(question: str, context: str, text: list[str], start: list[int]) -> Examples:
    row = {"question": question, "context": context, "answers": {"text": text, "answer_start": start}}
    return to_examples(V2, Table(columns([row]), "x"))


def tokens(split: Windows, window: int | np.integer[Any]) -> slice:
    return slice(*split.offsets[window : window + 2])


def labeled_text(split: Windows, window: int) -> str:
    """The text that a window's labels point to."""
    assert split.references is not None
    first, last = split.offsets[window] + split.labels[window]
    return str(split.references[split.owner[window]].context[split.starts[first] : split.ends[last]])


def test_windows_overlap_and_hold_all_of_the_context(tokenizer: Any) -> None:
    source = examples()
    split = windows.tokenize(source, tokenizer, 24)
    assert split.lengths.max() == 24 and len(split) > split.examples == 40
    assert split.owner.tolist() == sorted(split.owner) and set(split.owner) == set(range(40))
    for question, (question_text, context) in enumerate(zip(*source.texts, strict=True)):
        parts = []
        for window in np.flatnonzero(split.owner == question):
            ids, starts, ends = (values[tokens(split, window)] for values in (split.ids, split.starts, split.ends))
            inside = starts >= 0
            assert ids[~inside].tolist() == [*tokenizer(question_text)["input_ids"], SEP]
            assert np.array_equal(inside, ends >= 0)
            words = [context[start:end] for start, end in zip(starts[inside], ends[inside], strict=True)]
            assert words == tokenizer.convert_ids_to_tokens(ids[inside].tolist())
            parts.append(words)
        merged = parts[0]
        for part in parts[1:]:
            assert merged[-8:] == part[:8]  # a third of 24
            merged += part[8:]
        assert " ".join(merged) == context


def test_labels_point_to_the_answer_or_to_cls(tokenizer: Any) -> None:
    source = examples()
    split = windows.tokenize(source, tokenizer, 24)
    assert split.labels.dtype == split.owner.dtype == np.int64 and split.starts.dtype == np.int32
    for window, question in enumerate(split.owner):
        start, end = split.starts[tokens(split, window)], split.ends[tokens(split, window)]
        answer = source.references[question].starts  # type: ignore[index]
        if answer and start[start >= 0].min() <= answer[0] and end.max() >= answer[0] + len("w0 w1"):
            assert labeled_text(split, window) == "w0 w1" and split.strata[window] == 1
        else:
            assert split.labels[window].tolist() == [0, 0] and split.strata[window] == 0
    assert set(split.owner[split.strata == 1]) == set(np.flatnonzero(source.labels)) == set(range(0, 40, 2))


def test_the_label_is_the_first_answer_without_blanks_around_it(tokenizer: Any) -> None:
    split = windows.tokenize(one_example("w1", "w2 w3 w4 w5", [" w3 w4 ", "w5"], [2, 9]), tokenizer, 64)
    assert labeled_text(split, 0) == "w3 w4"


def test_an_answer_within_a_token_is_the_whole_token(tokenizer: Any) -> None:
    assert labeled_text(windows.tokenize(one_example("w1", "w2 w30 w4", ["30"], [4]), tokenizer, 64), 0) == "w30"


def test_long_questions_are_cut_and_their_blanks_are_not_read(tokenizer: Any) -> None:
    split = windows.tokenize(one_example("  \n" + "w7 " * 50, "w2 " * 60, [], []), tokenizer, 36)
    assert all(split.ids[tokens(split, window)].tolist()[:14] == [CLS, *[11] * 12, SEP] for window in range(len(split)))
    assert split.context(np.arange(len(split)), 40).sum(1).max() == 36 - 12 - 3


def test_a_context_without_words(tokenizer: Any) -> None:
    split = windows.tokenize(one_example("w7", "", [], []), tokenizer, 24)
    assert split.ids.tolist() == [CLS, 11, SEP, SEP] and not split.context(np.array([0]), 6).any()
    assert split.labels.tolist() == [[0, 0]]


@pytest.mark.parametrize(("single", "index"), [("$A [SEP] $B [CLS]", -1), ("$A $B", 0), ("$A [CLS] $B", 1)])
def test_the_position_of_questions_without_an_answer(single: str, index: int, tmp_path: Path, tokenizer: Any) -> None:
    """[CLS] need not be the first token, and need not exist."""
    from tokenizers import processors

    custom = load_tokenizer(tiny_models.model("bert", tmp_path / "m"))
    custom.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair=single, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    split = windows.tokenize(one_example("w7", "w8 w9", [], []), custom, 24)
    assert split.null.tolist() == [index % len(split.ids)] and split.labels.tolist() == [[split.null[0]] * 2]
    assert split.strata.tolist() == [0]


def test_tokens_that_begin_with_a_blank() -> None:
    """As in sentencepiece's and GPT-2's offsets."""
    starts, ends = np.array([-1, 0, 2, 5]), np.array([-1, 2, 5, 8])  # w2| w3| w4
    assert windows._span(starts, ends, Reference("w2 w3 w4", ["w3 w4"], [3])) == (2, 3)
    assert windows._span(starts, ends, Reference("w2 w3 w4 w5", ["w4 w5"], [6])) is None


def test_a_subset_has_all_windows_of_its_questions(tokenizer: Any) -> None:
    split = windows.tokenize(examples(), tokenizer, 24)
    chosen = np.array([3, 4, 17])
    part = split.take(chosen)
    assert part.references == [split.references[i] for i in chosen]  # type: ignore[index]
    assert part.examples == 3 and len(part) == np.isin(split.owner, chosen).sum()
    for window, index in enumerate(np.flatnonzero(np.isin(split.owner, chosen))):
        assert chosen[part.owner[window]] == split.owner[index]
        assert np.array_equal(part.labels[window], split.labels[index])
        for name in ("ids", "type_ids", "starts", "ends"):
            assert np.array_equal(getattr(part, name)[tokens(part, window)], getattr(split, name)[tokens(split, index)])
    assert split.take(np.arange(40)) is split


def test_loaded_from_the_cache_and_limited_by_questions(
    model: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.questions_folder(tmp_path / "data", 60, unanswerable=True)
    spec = TaskSpec(name="squad_v2", data=folder, max_length=24)
    first = load(spec, model)
    assert len(list((own_cache / "tokens").iterdir())) == 2
    monkeypatch.setattr(windows, "tokenize", None)  # calling it would raise
    second = load(spec, model)
    assert isinstance(second.train, Windows) and second.digest == first.digest
    for name, values in vars(first.train).items():
        cached = getattr(second.train, name)
        assert values == cached if name == "references" else np.array_equal(values, cached), name
    assert len(first.train) > first.train.examples == 60

    limited = load(spec.model_copy(update={"max_train_examples": 10, "max_eval_examples": 7, "tune_split": 0.2}), model)
    assert isinstance(limited.train, Windows) and isinstance(limited.validation["tune"], Windows)
    assert limited.train.examples + limited.validation["tune"].examples == 10
    assert 2 <= limited.validation["tune"].examples <= 3  # some with an answer and some without
    assert load(spec.model_copy(update={"max_eval_examples": 7}), model).validation["validation"].examples == 7
    with pytest.raises(TypeError):
        load(spec.model_copy(update={"max_length": 32}), model)  # tokenized again


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["a", {"text": [], "answer_start": []}, None], ["rows 1, 3", "'a'", "csv cannot hold answers"]),
        ([{"text": ["w2"]}] * 3, ["rows 1, 2, 3 (counted from 1, 3 in all)"]),
        ([{"text": ["w2"], "answer_start": [0, 1]}] * 3, ["a start for each text"]),
        ([{"text": ["w2"], "answer_start": ["0"]}] * 3, ["a start for each text"]),
        ([{"text": ["w3"], "answer_start": [start]} for start in (3, 2, -5)], ["rows 2, 3", "['w3'] at [2]"]),
        ([{"text": [text], "answer_start": [3]} for text in ("w3", "W3", "")], ["rows 2, 3", "not in the context"]),
        ([{"text": [], "answer_start": []}] * 3, ["no answer in rows 1, 2, 3", "--task squad_v2"]),
    ],
)
def test_answers_that_are_refused(answers: list[Any], words: list[str]) -> None:
    table_columns = {"question": ["w1"] * 3, "context": ["w2 w3"] * 3, "answers": answers}
    with pytest.raises(AutorankError) as caught:
        to_examples(V1, Table(table_columns, "x.jsonl"), train=True)
    assert all(word in str(caught.value) for word in ["x.jsonl", "'answers'", *words]), str(caught.value)


def test_equal_contexts_are_stored_once_and_strata_mark_answers() -> None:
    rows = columns(tiny_models.questions(4, unanswerable=True))
    rows["context"] = ["".join(rows["context"][0]) for _ in range(4)]
    rows["answers"] = [rows["answers"][0], rows["answers"][1]] * 2
    loaded = to_examples(V2, Table(rows, "x"))
    assert loaded.labels.tolist() == [1, 0, 1, 0] and loaded.labels.dtype == np.int64
    assert len({id(reference.context) for reference in loaded.references or []}) == 1


def test_files_that_are_refused(model: str, tmp_path: Path) -> None:
    rows = tiny_models.questions(4)
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation"):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    with pytest.raises(AutorankError, match="use jsonl or parquet"):
        load(TaskSpec(name="squad_v1", data=folder), model)

    for split in ("train", "validation"):
        (folder / f"{split}.csv").unlink()
        lines = [json.dumps({"question": row["question"], "contxt": row["context"]}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    with pytest.raises(AutorankError, match=r"column 'context'.*Did you mean 'contxt'.*column 'answers'"):
        load(TaskSpec(name="squad_v1", data=folder), model)


def test_tokenizers_and_lengths_that_are_refused(model: str, tmp_path: Path, tokenizer: Any) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(AutorankError, match=r"'some/model' \(Slow\) cannot map tokens to positions"):
        windows.check("some/model", Slow(), 384)
    folder = tiny_models.questions_folder(tmp_path / "data", 8)
    with pytest.raises(AutorankError, match=r"20 tokens are too few .* --max-length 24"):
        load(TaskSpec(name="squad_v1", data=folder, max_length=20), model)


def test_models_that_do_not_answer_questions(tmp_path: Path) -> None:
    from transformers import MarianConfig

    from autorank.modeling import base_model, heads

    MarianConfig(vocab_size=64).save_pretrained(tmp_path / "marian")
    with pytest.raises(AutorankError, match=r"'marian'\. transformers has no AutoModelForQuestionAnswering"):
        base_model.meta_model(str(tmp_path / "marian"), 2, heads.SPAN)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "llama", "gpt2"])
def test_heads(architecture: str, tmp_path: Path) -> None:
    from autorank.modeling import base_model, heads

    base = base_model.load(tiny_models.model(architecture, tmp_path / "m"), 2, head=heads.SPAN)
    assert base.head_modules == ["qa_outputs"] and set(base.head) == base.new
    assert base.head_params == 2 * tiny_models.HIDDEN + 2
