"""Configs of models: the padding token, which composite ones have twice."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as t

from autorank.modeling.loading.auto_model import set_pad_token


@pytest.mark.parametrize("config", [t.BertConfig(), t.Gemma3Config(), t.Qwen3_5Config(), t.T5Config()])
def test_the_padding_token_is_that_of_the_language_model(config: Any) -> None:
    set_pad_token(config, 7)
    assert config.pad_token_id == config.get_text_config().pad_token_id == 7
