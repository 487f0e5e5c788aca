"""Tiny random models of real architectures with a tokenizer, written to a directory, and data to train them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [f"w{i}" for i in range(60)]
HIDDEN, LAYERS = 16, 3


def tokenizer(folder: Path) -> int:
    """A word-level tokenizer for WORDS; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    return len(vocabulary)


def model(architecture: str, folder: Path) -> str:
    """Write a random base model without a head: `bert`, `roberta`, `deberta-v2`, `llama` or `gpt2`."""
    import transformers as t

    size = tokenizer(folder)
    common = {"vocab_size": size, "pad_token_id": 0, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS}
    encoder = common | {
        "num_attention_heads": 2, "intermediate_size": 32, "type_vocab_size": 2, "max_position_embeddings": 70,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    decoder = common | {
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32, "eos_token_id": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    network = {
        "bert": lambda: t.BertModel(t.BertConfig(**encoder), add_pooling_layer=True),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**encoder), add_pooling_layer=False),
        "deberta-v2": lambda: t.DebertaV2Model(
            t.DebertaV2Config(**encoder, relative_attention=True, share_att_key=True, pos_att_type=["p2c", "c2p"])
        ),
        "llama": lambda: t.LlamaModel(t.LlamaConfig(**decoder)),
        "gpt2": lambda: t.GPT2Model(
            t.GPT2Config(
                vocab_size=size,
                n_embd=HIDDEN,
                n_layer=LAYERS,
                n_head=2,
                n_positions=70,
                pad_token_id=0,
                bos_token_id=2,
                eos_token_id=3,
            )
        ),
    }[architecture]()
    network.save_pretrained(folder)
    return str(folder)


def update_config(model: Path, **values: Any) -> None:
    """Change values in the `config.json` of a saved model."""
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def set_dropout(model: Path, rate: float) -> None:
    """Set the dropout rates of a saved encoder."""
    update_config(model, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)


def rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Sentence pairs, labeled by whether both start with the same word: learnable by a tiny model."""
    import random

    draw = random.Random(seed)
    examples: list[dict[str, object]] = []
    for i in range(count):
        first = [draw.choice(WORDS) for _ in range(draw.randint(3, 9))]
        second = [draw.choice(WORDS) for _ in range(draw.randint(3, 9))]
        label = i % 2
        second[0] = first[0] if label else next(word for word in WORDS if word != first[0])
        examples.append({"left": " ".join(first), "right": " ".join(second), "label": label})
    return examples


def pairs_file(path: Path, count: int, seed: int = 0) -> Path:
    """Write `rows` to a JSON lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, seed)))
    return path


def pairs_folder(folder: Path, train: int, validation: int = 10) -> Path:
    """Write `rows` to JSON lines files in a directory, with these numbers for training and for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs_file(folder / "train.jsonl", train, seed=1)
    pairs_file(folder / "validation.jsonl", validation, seed=2)
    return folder


def questions(count: int, seed: int = 0, unanswerable: bool = False) -> list[dict[str, object]]:
    """Questions in SQuAD's format; the answer is `w0 w1`, somewhere in the context: learnable by a tiny model.

    With `unanswerable`, every second context lacks these words.
    """
    import random

    draw = random.Random(seed)
    examples: list[dict[str, object]] = []
    for i in range(count):
        words = [draw.choice(WORDS[2:]) for _ in range(draw.randint(4, 50))]
        position = draw.randrange(len(words))
        answers: dict[str, list[object]] = {"text": [], "answer_start": []}
        if not (unanswerable and i % 2):
            answers = {"text": ["w0 w1"], "answer_start": [sum(len(word) + 1 for word in words[:position])]}
            words[position:position] = ["w0", "w1"]
        question = " ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 5)))
        examples.append({"id": str(i), "question": question, "context": " ".join(words), "answers": answers})
    return examples


def questions_folder(folder: Path, count: int, unanswerable: bool = False) -> Path:
    """Write `questions` to JSON lines files in a directory: `count` for training, half as many for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, size, seed in (("train", count, 1), ("validation", count // 2, 2)):
        rows = questions(size, seed, unanswerable)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
