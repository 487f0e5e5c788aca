"""Converts an adapter to a PEFT LoRA adapter that computes the same function."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch

from autorank.errors import AutorankError
from autorank.export import padding
from autorank.export.hf_metadata import export_tokenizer, set_head_metadata
from autorank.modeling import adapter_file, adapters, base_model, heads
from autorank.modeling.base_model import BaseModel
from autorank.modeling.layers.lora_layer import LowRankUpdate

T = TypeVar("T")


def check_low_rank(adapter: Path) -> None:
    """Check that a PEFT LoRA adapter can represent an adapter.

    Args:
        adapter: The adapter file.

    Raises:
        AutorankError: The adapter has parameters that are not low-rank updates, or leaves position queries unadapted.
    """
    if not adapter_file.low_rank(adapter):
        raise AutorankError(
            f"{adapter} does not consist of low-rank updates, or leaves DeBERTa's position queries unadapted, so it "
            "cannot be exported as a PEFT LoRA adapter. Omit --pad to export it in autorank's own format, or use "
            "--merge if it can be merged."
        )


def peft_adapts(adapter: Path) -> bool:
    """Whether PEFT adapts the layers of an adapter, and no others, when it is given their names.

    In some mixtures of experts it does not: PEFT 0.21 takes `gate_proj` of a shared expert for the fused experts.

    Args:
        adapter: The adapter file, which has low-rank updates.

    Returns:
        Whether a PEFT adapter can hold it.

    Raises:
        AutorankError: The base model cannot be loaded.
    """
    from peft import LoraConfig, get_peft_model

    origin = adapter_file.origin(adapter)
    names = set(adapter_file.update_indices(adapter))
    model: Any = base_model.meta_model(origin.model, origin.outputs, origin.head)
    try:
        with without_deprecations():
            get_peft_model(model, LoraConfig(r=1, target_modules=list(names)), low_cpu_mem_usage=True)
    except ValueError:
        return False
    return names == {name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A")}


def write_peft(adapter: Path, folder: Path, max_length: int | None = None, pad: bool = False) -> None:
    """Write a PEFT LoRA adapter with the same logits, and the tokenizer.

    Every update becomes A' = A and B' = s · diag(u) · B · diag(e). Each layer has its own rank and alpha; layers of
    rank 0 are omitted; layers that share an update get a copy each. Updates with a magnitude m become PEFT's DoRA.
    Where a frozen start is subtracted, the adapter has twice the rank, as in PEFT's own conversion of PiSSA.

    Args:
        adapter: The adapter file; see `check_low_rank`.
        folder: The directory to write to.
        max_length: Maximum length that the tokenizer is given, in tokens; None: the model's own.
        pad: Give all layers one rank and one alpha, padded with zeros; see `autorank.export.padding`.

    Raises:
        AutorankError: Nothing is adapted, or a PEFT adapter cannot represent the adapter.
    """
    from peft import get_peft_model

    trained, origin = adapter_file.load(adapter, dtype=torch.bfloat16)  # the base's weights are not used
    updates = {name: layer.update for name, layer in adapters.adapted(trained.model).items() if layer.update.rank > 0}
    dora = _uses_dora(trained)
    if dora and pad:
        raise AutorankError(
            "DoRA adapters cannot be padded: servers that require one rank do not support DoRA. Omit --pad, or use "
            "--merge."
        )
    adapters.detach_all(trained.model)
    settings, factors = _padded_ranks(trained, updates) if pad else _layer_ranks(updates)
    config = _lora_config(trained, origin, set(updates), settings, dora)
    set_head_metadata(trained.model.config, origin)
    with without_deprecations():
        wrapped: Any = get_peft_model(trained.model, config)
    with torch.no_grad():
        for name, (down, up) in factors.items():
            layer = wrapped.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)
            if dora:
                layer.lora_magnitude_vector["default"].weight.copy_(updates[name].m)
    wrapped.save_pretrained(folder, save_embedding_layers=False)  # True would make PEFT ask the Hub about them
    _check_restored(wrapped, folder, factors)
    export_tokenizer(origin, max_length).save_pretrained(folder)


def without_deprecations() -> AbstractContextManager[None]:
    """Ignore warnings about the next version of transformers, which PEFT causes and users cannot avoid."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


def _check_restored(wrapped: Any, folder: Path, factors: padding.Factors) -> None:
    """Check that PEFT reads what was written: for some architectures it renames layers when it loads an adapter."""
    with warnings.catch_warnings(action="ignore"):
        wrapped.load_adapter(folder, "restored")
    for name, (down, up) in factors.items():
        layer = wrapped.base_model.model.get_submodule(name)
        stored = layer.lora_A["restored"].weight, layer.lora_B["restored"].weight
        if not all(torch.equal(values, factor) for values, factor in zip(stored, (down, up), strict=True)):
            raise AutorankError(
                f"The installed version of PEFT does not load the adapter of {name} again. Use --merge, or targets "
                "without this layer."
            )


def _uses_dora(trained: BaseModel) -> bool:
    """Whether the updates have a magnitude m.

    Raises:
        AutorankError: Only some have one, or one has rank 0, which PEFT's `use_dora` cannot express.
    """
    updates = {name: layer.update for name, layer in adapters.adapted(trained.model).items()}
    with_magnitude = [name for name, update in updates.items() if update.m is not None and update.rank > 0]
    if with_magnitude and len(with_magnitude) < len(updates):
        without_magnitude = next(name for name in updates if name not in with_magnitude)
        raise AutorankError(
            f"{with_magnitude[0]} uses DoRA, and {without_magnitude} does not or has rank 0. A PEFT adapter cannot mix "
            "them; use --merge."
        )
    return bool(with_magnitude)


def _modules_to_save(trained: BaseModel, adapted: set[str]) -> list[str]:
    """The modules that PEFT stores in full: the head, and other modules of the base model that were trained.

    Raises:
        AutorankError: One of them has an update too; PEFT cannot store both.
    """
    trained_modules = {
        base_model.module_of(name) for name, p in trained.model.named_parameters() if p.requires_grad
    } - {""}
    if conflicts := trained_modules & adapted:
        raise AutorankError(
            f"Both {min(conflicts)} and its update were trained, which a PEFT adapter cannot represent; use --merge."
        )
    return sorted(trained_modules | set(trained.head_modules))


def _layer_ranks(updates: Mapping[str, LowRankUpdate]) -> tuple[dict[str, Any], padding.Factors]:
    """PEFT's settings with a rank and an alpha for each layer, and the layers' A and B."""
    factors = {name: update.folded() for name, update in updates.items()}
    ranks = {name: len(down) for name, (down, _) in factors.items()}
    # The scale is not multiplied in: plain LoRA's values stay equal bit for bit. Rounded, for 16 and not 15.999…
    alphas = {name: float(f"{update.scale * ranks[name]:.12g}") for name, update in updates.items()}
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(updates),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
    }, factors


def _padded_ranks(trained: BaseModel, updates: Mapping[str, LowRankUpdate]) -> tuple[dict[str, Any], padding.Factors]:
    """PEFT's settings with one rank, the highest, and an alpha equal to it; and the layers' A and B."""
    factors = padding.pad_factors(trained.model, updates)
    rank = len(next(iter(factors.values()))[0])
    targets = padding.shortest_suffixes(trained.model, factors)
    return {"r": rank, "lora_alpha": rank, "target_modules": targets}, factors


def _lora_config(
    trained: BaseModel, origin: adapter_file.Origin, adapted: set[str], settings: dict[str, Any], dora: bool
) -> Any:
    """PEFT's LoraConfig of the adapter."""
    from peft import LoraConfig

    config = LoraConfig(
        task_type=heads.of_model(origin.head, trained.model.config).task_type,
        inference_mode=True,
        modules_to_save=_modules_to_save(trained, adapted),
        use_dora=dora,
        **settings,
    )
    config.base_model_name_or_path = origin.public_model
    return config


def _most_common(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]
