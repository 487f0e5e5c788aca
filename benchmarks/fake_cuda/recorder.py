"""Records what code does on the fake CUDA device: kernels, copies to the device, and waits for it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda:0")
aten = torch.ops.aten
# operators that only allocate, or change how a tensor is described
FREE = {
    aten.empty.memory_format, aten.empty_strided.default, aten.empty_like.default, aten.new_empty.default,
    aten.new_empty_strided.default, aten.detach.default, aten._unsafe_view.default, aten.lift_fresh.default,
    torch.ops.prim.device.default, aten._reshape_alias.default,
}  # fmt: skip
VALUES = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
SHAPES = {aten.nonzero.default, aten.masked_select.default, aten.unique_dim.default, aten._unique2.default}


class Recorder(TorchDispatchMode):
    """Counts operators of tensors on the device. Values that are read are 1 or False; masks select everything.

    Attributes:
        kernels: How often each operator launched a kernel.
        waits: Where the host waited for the device, by line of code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in _flat([args, kwargs]) if isinstance(value, Tensor)]
        if func in VALUES:
            self._wait(tensors)
            return _value(tensors[0].dtype)
        if func in SHAPES:
            self._wait(tensors)
            return _select_all(func, tensors[0])
        if func is aten.index.Tensor and any(index is not None and index.dtype == torch.bool for index in args[1]):
            self._wait(tensors)
            mask = args[1][0]
            values = args[0] if mask is None else args[0].flatten(0, mask.ndim - 1)
            return func(values, [_all_indices(index) for index in args[1]])
        result = func(*args, **kwargs)
        outputs = [value for value in _flat([result]) if isinstance(value, Tensor)]
        if any(value.device.type == "cuda" for value in (*outputs, *tensors)):
            to_host = func in (aten._to_copy.default, aten.copy_.default) and outputs[0].device.type == "cpu"
            if to_host and any(value.device.type == "cuda" for value in tensors):
                self._wait(tensors)
            elif not (func.is_view or func in FREE):
                self.kernels[str(func).removeprefix("aten.")] += 1
        return result

    def _wait(self, tensors: list[Tensor]) -> None:
        """Note the line of code, outside torch, that waits."""
        if any(value.device.type == "cuda" for value in tensors):
            frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
            self.waits[f"{frames[-1].filename}:{frames[-1].lineno}"] += 1

    def clear(self) -> None:
        """Reset the counts."""
        self.kernels.clear()
        self.waits.clear()

    @property
    def launches(self) -> int:
        """Number of kernels."""
        return sum(self.kernels.values())

    @property
    def casts(self) -> int:
        """Number of kernels that convert to another data type."""
        return self.kernels["_to_copy.default"]


def _flat(values: Any) -> Iterator[Any]:
    """The leaves of nested sequences and dicts."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        elif isinstance(value, dict):
            yield from _flat(value.values())
        else:
            yield value


def _value(dtype: torch.dtype) -> Any:
    if dtype == torch.bool:
        return False
    return 1.0 if dtype.is_floating_point else 1


def _select_all(func: Any, values: Tensor) -> Any:
    """The result of an operator whose shape depends on values, if all entries are selected."""
    if func is aten.masked_select.default:
        return values.flatten()
    if func is aten.nonzero.default:
        return torch.zeros(values.numel(), values.dim(), dtype=torch.int64, device=values.device)
    flat = values.flatten()
    return flat, flat.long(), flat.long()


def _all_indices(index: Tensor | None) -> Tensor | None:
    """Indices of all entries, in place of a mask."""
    if index is None or index.dtype != torch.bool:
        return index
    return torch.zeros(index.numel(), dtype=torch.int64, device=index.device)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """scaled_dot_product_attention as one CUDA kernel, which a CPU build of torch does not have."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if enable_gqa:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    needs_gradient = any(values.requires_grad for values in (query, key, value))
    out: Tensor = aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, needs_gradient, dropout_p, is_causal, scale=scale
    )[0]
    return out


def _numpy(values: Tensor) -> np.ndarray:
    """An array of this shape with the values 0, 1, 2, ..."""
    assert values.device.type == "cpu", "numpy cannot read a tensor on the GPU"
    return np.arange(values.numel()).reshape(values.shape)


def _apply(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Module.to for fake tensors; it creates new parameters, because torch cannot convert fake ones in place."""
    converted: dict[int, nn.Parameter] = {}
    with torch.no_grad():
        for submodule in module.modules():
            for name, parameter in submodule._parameters.items():
                if parameter is not None:
                    new_parameter = converted.setdefault(
                        id(parameter), nn.Parameter(convert(parameter), requires_grad=parameter.requires_grad)
                    )
                    submodule._parameters[name] = new_parameter
            for name, buffer in submodule._buffers.items():
                submodule._buffers[name] = None if buffer is None else convert(buffer)
    return module


@contextmanager
def recording() -> Iterator[Recorder]:
    """A context in which tensors are fake and may be on `DEVICE`. Created models: `with DEVICE:`."""
    no_op = mock.Mock(return_value=None)
    patches: dict[str, Any] = {
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,  # autocast is off without a GPU
        "torch.cuda.is_bf16_supported": lambda *_, **__: True,
        "torch.cuda.get_device_capability": lambda *_: (9, 0),
        "torch.cuda.mem_get_info": lambda *_: (2**36, 2**36),
        "torch.cuda.reset_peak_memory_stats": no_op,
        "torch.cuda.empty_cache": no_op,
        "torch.cuda.synchronize": no_op,
        "torch.random.fork_rng": lambda **_: nullcontext(),
        "torch.Tensor.numpy": _numpy,
        "safetensors.torch.save_file": lambda tensors, path: Path(path).touch(),
        "torch.Tensor.pin_memory": lambda values, *_: values,
        "torch.nn.Module._apply": _apply,
        "torch.nn.utils.clip_grad._has_foreach_support": lambda *_: True,
        "torch.nn.functional.scaled_dot_product_attention": _attention,
    }
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        # a copy of a tensor belongs to the same mode; copies of the mode would free its memory again
        stack.enter_context(mock.patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # modes belong to a thread
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Recorder())
