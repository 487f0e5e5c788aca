"""The device of models, and float64 on devices that lack it."""

from __future__ import annotations

import torch
from torch import Tensor


def default_device() -> torch.device:
    """Return the GPU if torch can use one, CUDA's or Apple's (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device that has no float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def double(tensor: Tensor) -> Tensor:
    """Convert a tensor to float64.

    Args:
        tensor: A tensor of any shape and floating-point type.

    Returns:
        The tensor in float64: on its device, or on the CPU if the device has no float64 (MPS).
    """
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
