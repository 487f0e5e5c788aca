"""What GPUs can do, with simulated properties."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from autorank.training.gpu import native_bf16


@pytest.mark.parametrize(
    ("hip", "capability", "architecture", "expected"),
    [
        (None, (7, 5), "", False),
        (None, (8, 0), "", True),
        (None, (9, 0), "", True),
        ("7.0", (9, 0), "gfx906:sramecc+:xnack-", False),  # MI50; ROCm reports its number as the capability
        ("7.0", (10, 3), "gfx1030", False),
        ("7.0", (9, 0), "gfx90a:sramecc+:xnack-", True),
        ("7.0", (9, 4), "gfx942", True),
        ("7.0", (11, 0), "gfx1100", True),
    ],
)
def test_bf16_is_native_from_ampere_and_cdna2(
    hip: str | None, capability: tuple[int, int], architecture: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(gcnArchName=architecture))
    assert native_bf16(0) == expected
