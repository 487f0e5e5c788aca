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
    if reason := problem():
        raise AutorankError(f"--quantize 4bit needs {reason}. Omit it, or use a smaller --model.")


def problem() -> str | None:
    """What bitsandbytes needs and this machine lacks, for messages; None if nothing."""
    if not torch.cuda.is_available():
        return "a GPU, but none was found"
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes (pip install bitsandbytes)"
    return None


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
