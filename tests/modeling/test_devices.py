"""The default device, and float64 where a device has none. No Apple GPU was available: torch's answers are replaced."""

from __future__ import annotations

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling.devices import default_device, double, exact_dtype
from autorank.training.model_cache import ModelCache, resolve_precision

MPS = torch.device("mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_default_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert default_device() == torch.device(device)
    assert ModelCache().device == torch.device(device)  # in `train`, `shrink` and each trial of a search
    assert ModelCache("cpu").device == torch.device("cpu")


def test_precision_on_mps() -> None:
    assert resolve_precision("auto", MPS) == "fp32" and resolve_precision("bf16", MPS) == "bf16"
    with pytest.raises(AutorankError, match="'fp16' needs a CUDA GPU"):
        resolve_precision("fp16", MPS)


def test_float64_is_computed_on_the_cpu_where_the_device_has_none() -> None:
    class OnMPS(torch.Tensor):
        device = MPS

        def double(self) -> torch.Tensor:  # type: ignore[override]
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self) -> torch.Tensor:  # type: ignore[override]
            return self.as_subclass(torch.Tensor)

    values = torch.rand(3).as_subclass(OnMPS)
    assert double(values).dtype == torch.float64 and torch.equal(double(values).float(), values.cpu())
    assert double(torch.rand(2)).device == torch.device("cpu")
    assert exact_dtype(MPS) == torch.float32 and exact_dtype(torch.device("cuda")) == torch.float64
