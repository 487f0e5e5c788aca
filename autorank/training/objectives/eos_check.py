"""Check of end tokens: encoder-decoders classify at a text's last one, and need equally many in every text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.splits.tokenized import Split

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

AT_LAST_TOKEN = ("t5gemma", "t5gemma2")  # encoder-decoders that classify at the last token before padding instead


def check(config: PreTrainedConfig, splits: Mapping[str, Split]) -> None:
    """Check that an encoder-decoder (BART, T5) can classify these texts; other models need no check.

    Tokenizers add end tokens after they truncate a text, so truncated texts keep theirs. A text fails if its words
    contain the end token, or if the tokenizer adds none.

    Args:
        config: The model's configuration.
        splits: The tokenized splits by name.

    Raises:
        AutorankError: A text has no end token, or a different number of them than the first text.
    """
    if not getattr(config, "is_encoder_decoder", False) or config.model_type in AT_LAST_TOKEN:
        return
    architecture, end = config.model_type, config.eos_token_id
    for name, split in splits.items():
        counts = np.diff(np.concatenate([[0], np.cumsum(np.isin(split.ids, end))])[split.offsets])
        if not counts.all():
            raise AutorankError(
                f"Text {int(np.argmin(counts)) + 1} of {name!r} has no end token (id {end}). {architecture} models "
                "classify a text at its end token. Use the model's original tokenizer, which adds one to every text."
            )
        different = np.flatnonzero(counts != counts[0])
        if len(different):
            row = different[0]
            raise AutorankError(
                f"Text {row + 1} of {name!r} has {counts[row]} end tokens (id {end}), but the first has {counts[0]}. "
                f"{architecture} models classify only texts with equally many. Remove the end token (</s>) from the "
                "texts."
            )
