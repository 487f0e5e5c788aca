"""Tiny random language models of real architectures, and text-to-text data that they can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

WORDS = [f"w{i}" for i in range(24)]
ANSWERS = ["red fox", "green", "a blue bird sings"]  # lengths differ; the key in the prompt selects the answer
KEYS = ["k0", "k1", "k2"]
TOKENS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[NL]", *KEYS, *WORDS, *sorted({w for a in ANSWERS for w in a.split()})]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": len(TOKENS)}
DECODER = IDS | SIZES | {"num_key_value_heads": 1, "max_position_embeddings": 64}
GPT2 = (
    IDS
    | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
)
BART = IDS | {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "max_position_embeddings": 64, "decoder_start_token_id": 3,
    "dropout": 0.0,
}  # fmt: skip
T5 = IDS | {
    "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}  # fmt: skip

# family -> transformers' class, its config, and the special tokens that its tokenizer puts around a text
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaForCausalLM", DECODER, "[BOS] $A"),
    "gpt2": ("GPT2LMHeadModel", GPT2, "$A"),
    "qwen2": ("Qwen2ForCausalLM", DECODER, "$A"),
    "bart": ("BartForConditionalGeneration", BART, "[BOS] $A [EOS]"),
    "t5": ("T5ForConditionalGeneration", T5, "$A [EOS]"),
}
ENCODED = ("bart", "t5")
CHAT = (
    "{% for m in messages %}{% if m.role == 'user' %}[BOS] k0 {{ m.content }} k1 {% else %}[NL] {{ m.content }} [EOS] "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}[NL] {% endif %}"
)


def byte_tokenizer(folder: Path) -> Any:
    """Write a byte-level BPE tokenizer, as Qwen2Tokenizer requires, with the words as tokens; its vocabulary size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["[PAD]", "[EOS]"])
    backend.train_from_iterator([" ".join([*TOKENS[5:], *ANSWERS])] * 9, trainer)
    bpe = json.loads(backend.to_str())["model"]
    Qwen2Tokenizer(
        vocab=bpe["vocab"], merges=[tuple(pair) for pair in bpe["merges"]], pad_token="[PAD]", eos_token="[EOS]",
        unk_token=None, model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    return len(bpe["vocab"])


def tokenizer(folder: Path, template: str = "$A", chat: bool = False) -> Any:
    """Write a word-level tokenizer with a token for line breaks; `template`: the special tokens around a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Replace("\n", " [NL] ")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template != "$A":
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
        )
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]",
        model_max_length=64, chat_template=CHAT if chat else None,
    )  # fmt: skip
    fast_tokenizer.save_pretrained(folder)
    return fast_tokenizer


def model(family: str, folder: Path, chat: bool = False) -> str:
    """Write a random language model and its tokenizer; its weights are large enough for clear choices."""
    import transformers

    name, settings, template = FAMILIES[family]
    if family == "qwen2":
        settings = settings | {"vocab_size": byte_tokenizer(folder), "eos_token_id": 1}
    else:
        tokenizer(folder, template, chat)
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    language_model = model_class(model_class.config_class(**settings))
    for parameter in language_model.parameters():
        if parameter.ndim == 2:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    language_model.save_pretrained(folder)
    return str(folder)


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Prompts of different lengths, a key among their words; the completion is the key's answer."""
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 7))]
        words.insert(rng.randint(0, len(words)), KEYS[i % len(KEYS)])
        pairs.append({"asked": " ".join(words), "told": ANSWERS[i % len(KEYS)]})
    return pairs


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write rows as a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    return path


def data(folder: Path, train: int = 96, validation: int = 24) -> Path:
    """Create a directory with train and validation files."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.jsonl", rows(train, 1))
    write(folder / "validation.jsonl", rows(validation, 2))
    return folder


IGNORED = -100  # transformers' label of positions that are not predicted


def library_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch as transformers' models take it, with labels of shape batch x seq."""
    inputs = {name: values for name, values in batch.items() if name not in ("labels", "predicted")}
    tokens = inputs.get("decoder_input_ids", inputs["input_ids"])
    labels = torch.full((tokens.numel(),), IGNORED)
    labels[batch["predicted"] + ("decoder_input_ids" not in inputs)] = batch["labels"]
    return inputs | {"labels": labels.view(tokens.shape)}
