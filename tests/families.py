"""Tiny random models of the supported architectures, with configs of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests import tiny_models

HIDDEN, LAYERS = 32, 2
TOKENS = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 48}
DECODER = TOKENS | SIZES | {"num_key_value_heads": 1, "head_dim": 16}
ENCODER = TOKENS | SIZES | {"max_position_embeddings": 70, "type_vocab_size": 2}
BART = {
    "d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 70,
    "decoder_start_token_id": 3, "forced_eos_token_id": 3,
}  # fmt: skip
T5 = {
    "d_model": HIDDEN, "d_kv": 16, "d_ff": 48, "num_layers": LAYERS, "num_heads": 2, "decoder_start_token_id": 0,
}  # fmt: skip
GPT2 = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 2, "n_positions": 70}

# family -> class names in transformers without their endings, and settings of the config
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", ENCODER),
    "roberta": ("Roberta", ENCODER),
    "electra": ("Electra", ENCODER | {"embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2",
        ENCODER | {"relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "distilbert": (
        "DistilBert",
        TOKENS | {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 70},
    ),
    "modernbert": (
        "ModernBert",
        TOKENS | SIZES | {"max_position_embeddings": 70, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    ),
    "gpt2": ("GPT2", TOKENS | GPT2),
    "llama": ("Llama", DECODER),
    "mistral": ("Mistral", DECODER),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", DECODER),
    "bart": ("Bart", TOKENS | BART),
    "t5": ("T5", TOKENS | T5),
    "t5-gated": ("T5", TOKENS | T5 | {"feed_forward_proj": "gated-gelu"}),
}
# families of which only the names of layers are tested, not a training (test_families.py)
LAYER_NAMES_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neox": ("GPTNeoX", TOKENS | SIZES),
    "bloom": ("Bloom", TOKENS | {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": 2}),
    "phi3": ("Phi3", DECODER),
    "albert": ("Albert", ENCODER | {"embedding_size": 16}),
}


def config(family: str) -> Any:
    import transformers

    name, settings = (FAMILIES | LAYER_NAMES_ONLY)[family]
    return getattr(transformers, f"{name}Config")(**settings)


def meta_model(family: str) -> torch.nn.Module:
    """A sequence classifier without weights."""
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        network: torch.nn.Module = AutoModelForSequenceClassification.from_config(config(family))
    return network


def model(family: str, folder: Path) -> str:
    """Writes a random base model without a head, and a tokenizer."""
    import transformers

    torch.manual_seed(0)
    network = getattr(transformers, f"{FAMILIES[family][0]}Model")(config(family))
    for parameter in network.parameters():  # nothing is nearly zero, as weights drawn at 0.02 are
        parameter.data += 0.1 * torch.randn(parameter.shape)
    network.save_pretrained(folder)
    tiny_models.tokenizer(folder)
    return str(folder)
