"""The class of transformers that loads a model, and the model's config."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.modeling import heads
from autorank.modeling.heads import Head
from autorank.modeling.loading import pretrained_checks
from autorank.modeling.loading.remote_code import trusted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_config(model: str, outputs: int) -> PreTrainedConfig:
    """Load the config of a model for a head.

    Args:
        model: Directory or name on the Hub.
        outputs: Width of the head; 0 for models without a head of their own.

    Returns:
        The config.

    Raises:
        AutorankError: It is an adapter, or its weights cannot be loaded here.
    """
    from transformers import AutoConfig

    pretrained_checks.refuse_adapter(model)
    with quiet():
        config: PreTrainedConfig = AutoConfig.from_pretrained(model, trust_remote_code=trusted())
    if outputs:  # set afterwards, because transformers refuses one output with the problem type of several classes
        config.problem_type, config.num_labels = None, outputs
    pretrained_checks.quantized_loading(model, config, "cpu")  # raises if the weights cannot be loaded here
    return config


def set_pad_token(config: PreTrainedConfig, pad_id: int) -> None:
    """Set the padding token of a model; decoders classify a text by the last token before it.

    Args:
        config: The model's config; in composite ones (Qwen3.5, Gemma 3) the language model's own is read.
        pad_id: The token.
    """
    config.pad_token_id = config.get_text_config().pad_token_id = pad_id


def auto_class(head: Head, config: PreTrainedConfig) -> Any:
    """The class of transformers that loads a model with a head.

    Args:
        head: Form of the model.
        config: The model's config.

    Returns:
        The auto class.

    Raises:
        AutorankError: transformers has no such class for models of this type.
    """
    import transformers

    form = heads.of_model(head, config)
    name = form.model_class
    auto = getattr(transformers, name)
    if trusted() and name in (getattr(config, "auto_map", None) or {}):
        return auto  # the class comes with the model
    if form == heads.TEXT and type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        raise AutorankError(
            f"The model is an encoder ({config.model_type!r}), which cannot generate text. "
            f"Use another --model: {form.examples}, {heads.TEXT_TO_TEXT.examples} or others."
        )
    if type(config) not in auto._model_mapping:
        raise AutorankError(
            f"The model has type {config.model_type!r}. transformers has no {name} for this type, which this "
            f"task needs. Use another --model: {form.examples} or others."
        )
    return auto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turn off transformers' progress bars and its warnings about new weights within this context."""
    from transformers.utils import logging

    level: Any = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
