"""Where encoder-decoders' classifiers read a text: at its last end token, of which all texts must have as many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import Split

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def check(config: PreTrainedConfig, splits: Mapping[str, Split]) -> None:
    """That an encoder-decoder (BART, T5) can classify these texts; of other models nothing is asked.

    Cut texts keep their end tokens, which tokenizers add after cutting. What can go wrong is a text that has the end
    token among its words, or a tokenizer that adds none.

    Raises:
        AutorankError: a text has no end token, or another number of them than the first.
    """
    if not getattr(config, "is_encoder_decoder", False):
        return
    kind, end = config.model_type, config.eos_token_id
    for name, split in splits.items():
        ends = np.diff(np.concatenate([[0], np.cumsum(split.ids == end)])[split.offsets])
        if not ends.all():
            raise AutorankError(
                f"Text {int(np.argmin(ends)) + 1} of {name!r} has no end token (id {end}), at which a {kind} model "
                "classifies. The tokenizer must add it to every text; the model's original one does."
            )
        odd = np.flatnonzero(ends != ends[0])
        if len(odd):
            raise AutorankError(
                f"Text {odd[0] + 1} of {name!r} has {ends[odd[0]]} end tokens (id {end}), the first has {ends[0]}; a "
                f"{kind} model classifies only texts that have as many. Take the end token (</s>) out of the texts."
            )
