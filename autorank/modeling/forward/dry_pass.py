"""Forward passes without weights: which lengths a model accepts and which of its layers text passes through.

A model that is built here has floating-point tensors without values (on the meta device). Integers, such as token ids
and positions, have values. A pass therefore costs milliseconds for models of any size, and an index outside an
embedding table raises an error, whatever rule the architecture has for positions.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
SHORT = 16  # tokens of a text that every model accepts
MAX_OPERATIONS = 100_000  # a pass with more is given up: recurrent models compute token by token
MAX_VALUES = 2**24  # larger integer tensors, such as masks of long texts, have no values either


class TooManyOperations(Exception):
    """A pass was given up."""


class WithoutWeights(TorchDispatchMode):
    """Within this context, floating-point tensors have no values, and integers have.

    A decision that depends on missing values is taken as if they were all one: every expert of a mixture has tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, on the meta device if an operand has no values."""
        kwargs = dict(kwargs or {})
        self.operations += 1
        if self.operations > MAX_OPERATIONS:
            raise TooManyOperations
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not operands:
            return _created(func, *args, **kwargs)
        if not any(operand.is_meta for operand in operands) and _elements(func, operands, args, kwargs) <= MAX_VALUES:
            return func(*args, **_on(kwargs, "cpu"))
        if func.overloadpacket in _SPECIAL:
            return _SPECIAL[func.overloadpacket](func, *args, **kwargs)
        return _abstract(func, *args, **kwargs)


def build(create: Callable[[], nn.Module]) -> nn.Module:
    """Build a model without weights.

    Args:
        create: Function that creates the model.

    Returns:
        The model in evaluation mode: parameters on the meta device, integer buffers with values.
    """
    with WithoutWeights():
        return create().eval()


def vocabulary(model: Any) -> int | None:
    """Number of entries of a model's embedding table; None if the architecture has no such table."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        return None


def accepted_length(model: nn.Module, limit: int) -> int | None:
    """The largest number of tokens, at most `limit`, that a model accepts.

    Args:
        model: A result of `build`.
        limit: The largest number to try, in tokens.

    Returns:
        The number of tokens; None if the model cannot run without weights.
    """
    if _accepts(model, limit):
        return limit
    low, high = SHORT, limit  # accepted, not accepted
    if limit <= SHORT or not _accepts(model, SHORT):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _accepts(model, middle) else (low, middle)
    return low


def modules_on_text_path(model: nn.Module) -> dict[str, tuple[int, int]] | None:
    """The modules through which text passes, if they map one tensor to one tensor.

    Args:
        model: A result of `build`.

    Returns:
        Name of the module -> last dimensions of its input and its output; None if the model cannot run without weights.
    """
    widths: dict[str, tuple[int, int]] = {}

    def record(name: str, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].ndim and output.ndim:
            widths[name] = args[0].shape[-1], output.shape[-1]

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(record, name)))
        return widths if _accepts(model, SHORT) else None


def _accepts(model: nn.Module, length: int) -> bool:
    """Whether a text of this length passes through the model; True if the pass was given up."""
    try:
        batch = _text(model, length)
        with torch.no_grad(), WithoutWeights():
            model(**batch)
    except TooManyOperations:
        return True
    except Exception:  # architectures raise different errors for a text that is too long
        return False
    return True


def _text(model: Any, length: int) -> dict[str, Any]:
    """A batch of one text: ordinary tokens, in encoder-decoders with an end token."""
    config = model.config
    parts = (config, config.get_text_config())
    special = {
        value for part in parts for key, value in vars(part).items() if isinstance(value, int) and "token" in key
    }
    first = (vocabulary(model) or 256) // 2  # special tokens are the first or the last of a vocabulary
    ids = torch.full((1, length), next(i for i in itertools.count(first) if i not in special))
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    accepted = inspect.signature(model.forward).parameters
    if getattr(config, "is_encoder_decoder", False):
        ids[0, -1] = getattr(config, "eos_token_id", None) or ids[0, 0]
        batch |= {"decoder_input_ids": ids} if "decoder_input_ids" in accepted else {}
    return batch | ({"use_cache": False} if "use_cache" in accepted else {})


def _created(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation that creates a tensor: with values if they are integers and not too many."""
    if all(argument.name != "device" for argument in func._schema.arguments):
        return func(*args, **kwargs)
    kwargs |= {"device": torch.device("meta"), "pin_memory": False}
    abstract = func(*args, **kwargs)
    if abstract.is_floating_point() or abstract.is_complex() or abstract.numel() > MAX_VALUES:
        return abstract
    return func(*args, **kwargs | {"device": torch.device("cpu")})


def _on(kwargs: dict[str, Any], device: str) -> dict[str, Any]:
    """Keyword arguments with another device, if they name one."""
    return kwargs | {"device": torch.device(device)} if kwargs.get("device") is not None else kwargs


def _elements(func: Any, operands: list[Tensor], args: Any, kwargs: Any) -> int:
    """Number of elements that the result of an operation has at most, if its operands are broadcast."""
    if func.overloadpacket in _LARGER:
        return int(_abstract(func, *args, **kwargs).numel())
    try:
        return math.prod(torch.broadcast_shapes(*(operand.shape for operand in operands)))
    except RuntimeError:
        return max(operand.numel() for operand in operands)


def _abstract(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation on the meta device."""

    def moved(value: Any) -> Any:
        return torch.empty_like(value, device="meta") if isinstance(value, Tensor) and not value.is_meta else value

    args, kwargs = tree_map(moved, (args, _on(kwargs, "meta")))
    return func(*args, **kwargs)


def _check(index: Any, size: int) -> None:
    """Raise an IndexError if a tensor of indices with values exceeds a dimension."""
    if (
        index is not None
        and not index.is_meta
        and index.numel()
        and not -size <= int(index.min()) <= int(index.max()) < size
    ):
        raise IndexError(f"index {int(index.max())} is out of range for {size} entries")


def _embedding(func: Any, weight: Tensor, indices: Tensor, *args: Any, **kwargs: Any) -> Any:
    _check(indices, weight.shape[0])
    return _abstract(func, weight, indices, *args, **kwargs)


def _gather(func: Any, values: Tensor, dim: int, index: Tensor, *args: Any, **kwargs: Any) -> Any:
    _check(index, values.shape[dim])
    return _abstract(func, values, dim, index, *args, **kwargs)


def _index(func: Any, values: Tensor, indices: list[Tensor | None], *args: Any, **kwargs: Any) -> Any:
    positions: list[Tensor | None] = []
    for index in indices:  # a mask selects the positions where it is true
        positions += _nonzero(func, index).unbind(1) if index is not None and index.dtype == torch.bool else [index]
    for index, size in zip(positions, values.shape, strict=False):
        _check(index, size)
    return _abstract(func, values, positions, *args, **kwargs)


def _nonzero(_func: Any, values: Tensor) -> Tensor:
    return (torch.ones(values.shape, dtype=torch.bool) if values.is_meta else values).nonzero()


def _item(_func: Any, values: Tensor) -> bool | int:
    return True if values.dtype == torch.bool else 1


def _grouped_mm(_func: Any, a: Tensor, b: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    """The products of a mixture's experts: tokens x in and experts x in x out to tokens x out."""
    return torch.empty(*a.shape[:-1], b.shape[-1], dtype=a.dtype, device="meta")


# operations whose result can have more elements than their operands
_LARGER = {aten.repeat, aten.new_empty, aten.new_full, aten.new_ones, aten.new_zeros}
_SPECIAL: dict[Any, Callable[..., Any]] = {
    aten.embedding: _embedding,
    aten.gather: _gather,
    aten.index_select: _gather,
    aten.index: _index,
    aten.nonzero: _nonzero,
    aten._local_scalar_dense: _item,
    aten._grouped_mm: _grouped_mm,
}
