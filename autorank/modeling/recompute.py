"""Gradient checkpointing: a block's activations are computed again in the backward pass, not kept until then.

All comes out the same, dropout included, for one more forward pass a step. Only a hook in a block would see each pass
twice: `again` tells it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from autorank.errors import AutorankError

if TYPE_CHECKING:
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
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": _contexts})
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
        model.activation_checkpointing_disable()
        keep(True)

    return disable


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
