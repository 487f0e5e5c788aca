"""The config and the tokenizer of an export, as transformers' pipelines expect them."""

from __future__ import annotations

from typing import Any, Literal

from transformers import PreTrainedConfig

from autorank.modeling import heads
from autorank.modeling.adapter_file import Origin
from autorank.modeling.loading.auto_model import set_pad_token
from autorank.modeling.text_limits import text_limits
from autorank.tasks.tokenization import load_tokenizer

# transformers' name of one of several classes
SINGLE_LABEL: Literal["single_label_classification"] = "single_label_classification"


def set_head_metadata(config: PreTrainedConfig, origin: Origin) -> None:
    """Store class names, the problem type and the padding token in a model's config.

    Args:
        config: Changed in place.
        origin: The base model and the head of the adapter.
    """
    if origin.label_names:
        config.id2label = dict(enumerate(origin.label_names))
        config.label2id = {name: i for i, name in enumerate(origin.label_names)}
    if origin.head == heads.SEQUENCE:
        config.problem_type = origin.problem_type or SINGLE_LABEL
    set_pad_token(config, origin.pad_id)


def export_tokenizer(origin: Origin, max_length: int | None) -> Any:
    """Return the base model's tokenizer, with the maximum length of training; see `text_limits`.

    Args:
        origin: The base model.
        max_length: Tokens; None: the tokenizer's own maximum.

    Returns:
        A transformers tokenizer.
    """
    tokenizer = load_tokenizer(origin.model)
    if max_length is not None:
        limit = min(max_length, tokenizer.model_max_length)
        tokenizer.model_max_length = text_limits(origin.model, origin.outputs, origin.head, limit).length
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as in training
    return tokenizer
