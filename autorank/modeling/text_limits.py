"""The limits of a model for texts: how many tokens it accepts, and which ones it has embeddings for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from autorank.modeling import heads
from autorank.modeling.base_model import meta_model
from autorank.modeling.forward import dry_pass
from autorank.modeling.heads import Head


@dataclass(frozen=True)
class TextLimits:
    """The limits of a model.

    Attributes:
        length: Number of tokens of a text at most.
        vocabulary: Number of entries of the embedding table; None if the architecture has no such table.
        padding: Padding token after which positions are counted (RoBERTa); None if positions do not depend on one.
    """

    length: int
    vocabulary: int | None
    padding: int | None


def text_limits(model: str, outputs: int, head: Head, limit: int) -> TextLimits:
    """Find the limits of a model.

    The length is the smallest of `limit`, the positions for which the model was trained (`max_position_embeddings`),
    and the length that it accepts. The latter is found by passes without weights (see `dry_pass`), so it is right for
    architectures whose positions start after the padding token (RoBERTa, MPNet, XLM-R) or at an offset (OPT, BART).

    Args:
        model: Directory or name on the Hub.
        outputs: Width of the head; 0 for models without a head of their own.
        head: Form of the model.
        limit: The maximum length of the task and of the tokenizer, in tokens.

    Returns:
        The limits.

    Raises:
        AutorankError: There is no such model, the Hub cannot be reached, or the model does not support such tasks.
    """
    built: Any = meta_model(model, outputs, head)
    trained = getattr(built.config.get_text_config(), "max_position_embeddings", None) or 0
    length = min(limit, trained) if trained > 0 else limit
    # targets of encoder-decoders can be padded to one token more than the longest
    extra = 1 if heads.of_model(head, built.config) == heads.TEXT_TO_TEXT else 0
    accepted = dry_pass.accepted_length(built, length + extra)
    length = length if accepted is None else min(length, accepted - extra)
    return TextLimits(length, dry_pass.vocabulary(built), _position_padding(built))


def _position_padding(model: nn.Module) -> int | None:
    """The padding token of a table of positions, which the model's config determines, whatever the tokenizer has."""
    paddings = (getattr(module, "padding_idx", None) for name, module in model.named_modules() if "position" in name)
    return next((padding for padding in paddings if isinstance(padding, int)), None)
