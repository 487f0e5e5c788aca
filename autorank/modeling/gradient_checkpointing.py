"""Gradient checkpointing: a block's activations are computed again in the backward pass, not kept until then.

All comes out the same, dropout included, for one more forward pass a step. Only a hook in a block would see each pass
twice: `again` tells it so. What a hook keeps of its own is not computed again, but what an autograd function saves is.
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

_again = False


def again() -> bool:
    """Whether the forward pass at hand repeats one that hooks have seen already."""
    return _again


def enable(model: PreTrainedModel) -> Callable[[], object]:
    """From now on training keeps no more than each block's input; returns what turns that off again.

    Raises:
        AutorankError: the architecture has no gradient checkpointing.
    """
    from transformers import PreTrainedModel

    if not model.supports_gradient_checkpointing:
        raise AutorankError(
            f"Models of type {model.config.model_type!r} have no gradient checkpointing. Leave it out; a higher "
            "--accumulate or a lower --max-length saves memory too."
        )
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # until transformers 5.22
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False, "context_fn": _contexts})
    # the library has made the embeddings' output require a gradient, which only the reentrant kind needs
    model.disable_input_require_grads()
    # keys and values are kept for generating alone; the library would turn that off itself, with a warning
    parts = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    keeping = [config for config in parts if getattr(config, "use_cache", False)]

    def keep(value: bool) -> None:
        for config in keeping:
            config.use_cache = value

    keep(False)

    def disable() -> None:
        getattr(model, f"{kind}_checkpointing_disable")()
        keep(True)

    return disable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, for backward passes too: its blocks' activations are computed again as in training.

    transformers does so in training mode alone, hence a block seems to be in it until its own forward pass begins.
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
    """What a block's forward pass and its repetition run in."""
    return nullcontext(), _repetition()


@contextmanager
def _repetition() -> Iterator[None]:
    global _again
    _again = True
    try:
        yield
    finally:
        _again = False
