"""What a GPU can do, and how much of its memory this process may use."""

from __future__ import annotations

import torch

NATIVE_BF16 = (8, 0)  # compute capability from which bf16 is not emulated: Ampere

_share = 1.0


def native_bf16(device: torch.device | int) -> bool:
    """Whether a GPU computes in bf16 itself. `torch.cuda.is_bf16_supported` counts emulation, which is slow."""
    return torch.cuda.get_device_capability(device) >= NATIVE_BF16


def limit_memory(share: float) -> None:
    """Limit this process to a share of each GPU's memory, because others train on it too.

    Args:
        share: 0 to 1.
    """
    global _share
    _share = share
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(share, index)


def memory_limit(device: torch.device) -> int:
    """Bytes of the GPU's memory that this process may use."""
    return int(_share * torch.cuda.get_device_properties(device).total_memory)


def free_memory(device: torch.device) -> int:
    """Bytes of the GPU's memory that this process may still use; what its own cache holds is free."""
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return min(free + reserved - allocated, int(_share * total) - allocated)


def wait(device: torch.device) -> None:
    """Wait until the GPU has done all work, before the time is taken; on a CPU nothing is waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
