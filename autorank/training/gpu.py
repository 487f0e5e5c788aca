"""What a GPU can do, and how much of its memory this process may use."""

from __future__ import annotations

import torch

NATIVE_BF16 = (8, 0)  # compute capability from which NVIDIA's GPUs compute in bf16: Ampere
NATIVE_BF16_AMD = ("gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")  # AMD's architectures that do: CDNA2, RDNA3 and later

_share = 1.0


def native_bf16(device: torch.device | int) -> bool:
    """Whether a GPU computes in bf16 itself. `torch.cuda.is_bf16_supported` counts emulation, which is slow."""
    if torch.version.hip:
        return torch.cuda.get_device_properties(device).gcnArchName.startswith(NATIVE_BF16_AMD)
    return torch.cuda.get_device_capability(device) >= NATIVE_BF16


def reserved_device(gpus: float) -> str | None:
    """Return the CPU for a process that has reserved no GPU, from which Ray does not hide them; else the default."""
    return "cpu" if not gpus and torch.cuda.is_available() else None


def limit_memory(share: float) -> None:
    """Limit this process to a share of its GPU's memory, because others train on it too.

    The limit is that of the current device: torch makes a device the current one to set its limit.

    Args:
        share: 0 to 1.
    """
    global _share
    _share = share
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


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
