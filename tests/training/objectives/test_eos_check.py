"""Which encoder-decoders need an end token in every text."""

from __future__ import annotations

import numpy as np
import pytest
import transformers as t

from autorank.errors import AutorankError
from autorank.tasks.splits.tokenized import Split
from autorank.training.objectives import eos_check

WITHOUT_END = Split(np.array([5, 6, 1, 7], np.int32), None, np.array([0, 3, 4]), np.array([0, 1]))


def test_models_that_classify_at_the_end_token_need_it() -> None:
    with pytest.raises(AutorankError, match="Text 2 of 'train' has no end token"):
        eos_check.check(t.T5Config(eos_token_id=1), {"train": WITHOUT_END})
    eos_check.check(t.BertConfig(eos_token_id=1), {"train": WITHOUT_END})


def test_t5gemma_classifies_at_the_last_token() -> None:
    config = t.T5GemmaConfig()
    config.eos_token_id = [1, 107]
    eos_check.check(config, {"train": WITHOUT_END})
