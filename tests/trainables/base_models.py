"""The papers' base models without weights, from their configurations only."""

from __future__ import annotations

import torch
from torch import nn


def roberta() -> nn.Module:
    """RoBERTa-base with a classification head, on the meta device."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=50_265, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=514, type_vocab_size=1,
    )  # fmt: skip
    with torch.device("meta"):
        return RobertaForSequenceClassification(config)


def deberta() -> nn.Module:
    """DeBERTa-v3-base with a small vocabulary and a classification head, on the meta device."""
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    config = DebertaV2Config(
        vocab_size=1000, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=512, type_vocab_size=0, relative_attention=True, position_buckets=256,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
    )  # fmt: skip
    with torch.device("meta"):
        return DebertaV2ForSequenceClassification(config)
