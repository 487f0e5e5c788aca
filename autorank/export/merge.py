"""Merges an adapter into its base model: a plain transformers model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.export.hf_metadata import export_tokenizer, set_head_metadata
from autorank.modeling import adapter_file, adapters
from autorank.modeling.forward.greedy_decoding import greedy
from autorank.modeling.loading.auto_model import quiet
from autorank.tasks.prompts.chat_encoding import text_ends


def check_mergeable(adapter: Path) -> None:
    """Check that an adapter can be added to the base model's weights.

    Args:
        adapter: The adapter file.

    Raises:
        AutorankError: The adapter has bottleneck layers, which are not linear, or leaves position queries unadapted.
    """
    if adapter_file.bottlenecked(adapter):
        raise AutorankError(
            f"{adapter} has bottleneck layers, which are not linear and cannot be merged into the model's weights. "
            "Omit --merge to export it in autorank's own format."
        )
    if adapter_file.leaves_position_queries(adapter):
        raise AutorankError(
            f"{adapter} leaves DeBERTa's position queries unadapted (`published: true`), so it cannot be merged into "
            "the model's weights. Omit --merge to export it in autorank's own format."
        )


def write_merged(adapter: Path, folder: Path, max_length: int | None = None) -> None:
    """Write the base model with the adapter added to its weights, and the tokenizer.

    Args:
        adapter: The adapter file; see `check_mergeable`.
        folder: The directory to write to.
        max_length: Maximum length that the tokenizer is given, in tokens; None: the model's own.
    """
    trained, origin = adapter_file.load(adapter)
    merge(trained.model)
    set_head_metadata(trained.model.config, origin)
    tokenizer = export_tokenizer(origin, max_length)
    if origin.head.generates:
        start = getattr(trained.model.config, "decoder_start_token_id", None)
        trained.model.generation_config = greedy(text_ends(tokenizer), origin.pad_id, start)
    with quiet():
        trained.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add every update to the weight that it adapts, W = W0 + ΔW, and remove it.

    Args:
        model: The base model with its updates; changed in place.

    Raises:
        AutorankError: The weights of the base model are quantized.
    """
    layers = adapters.adapted(model)
    deltas = {name: layer.delta_weight() for name, layer in layers.items()}
    adapters.detach_all(model)
    for name, delta in deltas.items():
        layer = model.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if not weight.is_floating_point():
            raise AutorankError(f"{name} is quantized, so its adapter cannot be added to it. Omit --merge.")
        weight.add_(delta if isinstance(layer, nn.Linear) else delta.T)  # transformers' Conv1D: in x out
