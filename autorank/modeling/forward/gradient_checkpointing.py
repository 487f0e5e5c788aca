"""Gradient checkpointing: the activations of a block are recomputed in the backward pass instead of being stored.

Results are the same, including dropout, at the cost of one more forward pass per step. A hook in a block runs in both
passes; `recomputing` returns True in the second one. Tensors that a hook stores are not recomputed; those that an
autograd function saves are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_recomputing = False


def recomputing() -> bool:
    """Whether the current forward pass is a recomputation."""
    return _recomputing


def enable(model: PreTrainedModel) -> Callable[[], object]:
    """Turn on gradient checkpointing: training stores only the input of each block.

    Args:
        model: The model; changed in place.

    Returns:
        A function that turns it off again.

    Raises:
        AutorankError: The architecture does not support gradient checkpointing.
    """
    from transformers import PreTrainedModel

    if not model.supports_gradient_checkpointing:
        raise AutorankError(
            f"Models of type {model.config.model_type!r} do not support gradient checkpointing. Omit "
            "--gradient-checkpointing; a higher --accumulate or a lower --max-length also saves memory."
        )
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # until transformers 5.22
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False, "context_fn": _contexts})
    # transformers made the embeddings' output require a gradient, which only reentrant checkpointing needs
    model.disable_input_require_grads()
    # the cache of keys and values is only for generation; transformers would turn it off with a warning
    configs = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    cached = [config for config in configs if getattr(config, "use_cache", False)]

    def use_cache(value: bool) -> None:
        for config in cached:
            config.use_cache = value

    use_cache(False)

    def disable() -> None:
        getattr(model, f"{kind}_checkpointing_disable")()
        use_cache(True)

    return disable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode with gradient checkpointing, for backward passes in evaluation mode.

    transformers uses checkpointing only in training mode. So each block is in training mode until its forward pass
    begins.

    Args:
        model: The model; its mode is changed in place.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.eval()
    blocks: list[Any] = [
        m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and m.gradient_checkpointing
    ]
    before = [block._gradient_checkpointing_func for block in blocks]
    try:
        for block, checkpointed in zip(blocks, before, strict=True):
            block._gradient_checkpointing_func = partial(_in_evaluation, block, checkpointed)
            block.training = True
        yield
    finally:
        for block, checkpointed in zip(blocks, before, strict=True):
            block._gradient_checkpointing_func = checkpointed
            block.training = False


def _in_evaluation(block: nn.Module, checkpointed: Callable[..., Any], forward: Callable[..., Any], *args: Any) -> Any:
    def run(*args: Any) -> Any:
        block.training = False
        try:
            return forward(*args)
        finally:
            block.training = True

    return checkpointed(run, *args)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a block's forward pass and of its recomputation."""
    return nullcontext(), _recomputation()


@contextmanager
def _recomputation() -> Iterator[None]:
    global _recomputing
    _recomputing = True
    try:
        yield
    finally:
        _recomputing = False
