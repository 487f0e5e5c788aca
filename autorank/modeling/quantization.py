"""Frozen weights in 4 bits with bitsandbytes: NF4 with double quantization (QLoRA, Dettmers et al. 2023)."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

import torch

from autorank.errors import AutorankError


def check() -> None:
    """Check that this machine supports 4-bit models.

    Raises:
        AutorankError: There is no GPU, or bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise AutorankError("--quantize 4bit needs a GPU, but none was found. Omit it, or use a smaller --model.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise AutorankError("--quantize 4bit needs the package bitsandbytes: pip install bitsandbytes.")


def four_bit(compute: torch.dtype, skipped: Collection[str]) -> Any:
    """The `quantization_config` of transformers for a 4-bit model.

    Args:
        compute: Data type of matrix products.
        skipped: Names of modules that are not quantized because they are trained.

    Returns:
        A `BitsAndBytesConfig`.

    Raises:
        AutorankError: This machine does not support 4-bit models.
    """
    from transformers import BitsAndBytesConfig

    check()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=list(skipped),
    )  # fmt: skip
