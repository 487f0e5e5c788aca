"""A base whose frozen weights take 4 bits, by bitsandbytes: NF4, doubly quantised (QLoRA, Dettmers et al. 2023)."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

import torch

from autorank.errors import AutorankError


def check() -> None:
    """That this machine can hold a base in 4 bits.

    Raises:
        AutorankError: it has no GPU, or no bitsandbytes.
    """
    if not torch.cuda.is_available():
        raise AutorankError("--quantize 4bit needs a GPU, and there is none. Leave it out, or use a smaller --model.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise AutorankError("--quantize 4bit needs the package bitsandbytes: pip install bitsandbytes.")


def four_bit(compute: torch.dtype, whole: Collection[str]) -> Any:
    """What transformers takes as `quantization_config`; raises as `check`.

    Args:
        compute: in which matrices are multiplied.
        whole: modules that are not quantised, for they train.
    """
    from transformers import BitsAndBytesConfig

    check()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=list(whole),
    )  # fmt: skip
