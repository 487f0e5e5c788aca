"""PEFT's LoRA adapters, trained by any program: read into low-rank updates, put on a base model, written again.

AdaLoRA adapters are read as PEFT saves them: its E is multiplied into A, its scale is alpha / (initial rank + 1e-5).
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.modeling.base_model import BaseModel
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.loading.hub_access import hub_access
from autorank.modeling.target_modules import features

PREFIX = "base_model.model."  # prefix of all names in PEFT's files
TYPES = ("LORA", "ADALORA")
FILES = ("adapter_model.safetensors", "adapter_model.bin", "adapter_config.json")
INITIALIZATIONS = (True, False, "gaussian", "orthogonal", "eva", "mica")  # those that keep the base's weights
UNSUPPORTED = (  # options by which an adapter computes more than its low-rank updates
    "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
    "megatron_config", "layer_replication", "target_parameters", "trainable_token_indices",
)  # fmt: skip
PARTS = {
    "lora_A.weight": "A", "lora_B.weight": "B", "lora_A": "A", "lora_B": "B", "lora_E": "E",
    "lora_magnitude_vector": "m", "lora_magnitude_vector.weight": "m",
}  # fmt: skip


@dataclass(frozen=True)
class PeftAdapter:
    """A PEFT adapter.

    Attributes:
        folder: Its directory, or name on the Hub.
        config: PEFT's configuration of it.
        updates: Layer name -> update.
        others: Name in the base model -> value, of all other parameters that it stores: its head, biases.
    """

    folder: str
    config: Any
    updates: dict[str, LowRankUpdate]
    others: dict[str, Tensor]

    @property
    def base_model(self) -> str:
        """The base model that the adapter's configuration names.

        Raises:
            AutorankError: It names none.
        """
        if not self.config.base_model_name_or_path:
            raise AutorankError(f"The configuration of {self.folder} names no base model. Give one with --model.")
        return str(self.config.base_model_name_or_path)


def read(folder: str) -> PeftAdapter:
    """Read a PEFT adapter.

    Args:
        folder: Its directory, or name on the Hub.

    Returns:
        The adapter. Its updates are trainable parameters on the CPU.

    Raises:
        AutorankError: There is no adapter, it is not a LoRA adapter, or it has parts that cannot be cut.
    """
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    if Path(folder).is_dir() and not (Path(folder) / "adapter_config.json").is_file():
        raise AutorankError(
            f"{folder} has no adapter_config.json, so it is not a PEFT adapter. Give the directory that "
            "save_pretrained or `autorank export` wrote."
        )
    with hub_access("adapter", folder), warnings.catch_warnings(action="ignore"):
        try:
            config = PeftConfig.from_pretrained(folder)
        except ValueError as error:  # PEFT raises it for every problem
            raise AutorankError(
                f"{folder!r} is neither a directory nor a PEFT adapter that the Hub has. Check the path or the name."
            ) from error
        kind = getattr(config.peft_type, "value", config.peft_type)
        if kind not in TYPES:
            raise AutorankError(f"{folder} is a {kind} adapter. Only LoRA and AdaLoRA adapters can be cut.")
        _check_options(folder, config)
        try:
            tensors = load_peft_weights(folder, device="cpu")
        except ValueError as error:
            raise AutorankError(f"{folder} has no weights: {FILES[0]} is missing.") from error
    layers, others = _sort(folder, tensors)
    return PeftAdapter(folder, config, {name: _update(name, parts, config) for name, parts in layers.items()}, others)


def attach(adapter: PeftAdapter, base: BaseModel) -> None:
    """Put a copy of an adapter on a base model, with its head and all other parameters that it stores.

    Args:
        adapter: The adapter.
        base: The base model with a head for the task, nothing attached.

    Raises:
        AutorankError: The adapter does not fit the model or its head, or has no head for it.
    """
    modules, parameters = dict(base.model.named_modules()), dict(base.model.named_parameters())
    for name, update in adapter.updates.items():
        shape = (update.A.shape[1], update.B.shape[0])
        if name not in modules:
            raise AutorankError(
                f"The base model has no layer {name}, which {adapter.folder} adapts. Pass the adapter's own base model "
                "with --model."
            )
        if (layer_shape := features(modules[name])) != shape:
            raise AutorankError(
                f"Layer {name} of the base model is {layer_shape} (in, out), but {adapter.folder} adapts {shape}. "
                "Pass the adapter's base model with --model."
            )
    missing = [name for name in base.head if name in base.new and name not in adapter.others]
    if missing:
        raise AutorankError(
            f"{adapter.folder} has no head for this task ({missing[0]} is missing). It was trained for another kind "
            "of task, or saved without modules_to_save."
        )
    for name, value in adapter.others.items():
        if name not in parameters:
            raise AutorankError(
                f"The base model has no parameter {name}, which {adapter.folder} stores. It was trained for another "
                "kind of task or another base model."
            )
        if parameters[name].shape != value.shape:
            raise AutorankError(
                f"{adapter.folder} stores {name} as {tuple(value.shape)}, but for this task it is "
                f"{tuple(parameters[name].shape)}: the number of labels differs."
            )
    device = base.model.device
    for name, update in adapter.updates.items():
        adapters.attach(base.model, name, deepcopy(update).to(device), adapter.config.lora_dropout)
    with torch.no_grad():
        for name, value in adapter.others.items():
            parameters[name].copy_(value)


def skeleton(adapter: PeftAdapter) -> nn.Module:
    """A module that carries the updates under their names and nothing else, to factorize them without the base."""
    root = nn.Module()
    for name, update in adapter.updates.items():
        module = root
        *path, last = name.split(".")
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.add_module(last, AdaptedLinear(nn.Identity(), update))
    return root


@torch.no_grad()
def write(
    adapter: PeftAdapter, updates: Mapping[str, LowRankUpdate], others: Mapping[str, Tensor], to: Path,
    pad: bool = False,
) -> None:  # fmt: skip
    """Write a PEFT LoRA adapter with other updates; everything else is the adapter's.

    Args:
        adapter: The adapter that the updates were cut from.
        updates: Layer name -> update; those of rank 0 are left out.
        others: Parameters to store with them, as `PeftAdapter.others`.
        to: The directory to write to, which exists.
        pad: Give all layers of the adapter one rank, padded with zeros, also those of rank 0.

    Raises:
        AutorankError: DoRA updates are to be padded.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    # padding keeps the adapter's layers and adds no others of their kinds, as `export` does: without data there is no
    # base model that would tell which there are
    exported = {name: update for name, update in updates.items() if update.rank > 0 or pad}
    dora = any(update.m is not None for update in exported.values())
    if dora and pad:
        raise AutorankError("DoRA adapters cannot be padded. Omit --pad.")
    max_rank = max([update.rank for update in exported.values()], default=1)
    tensors = {_stored_name(name, exported): value for name, value in others.items()}
    ranks = {}
    for name, update in exported.items():
        down, up = update.folded()
        ranks[name] = max_rank if pad else update.rank
        missing = ranks[name] - update.rank
        tensors[f"{PREFIX}{name}.lora_A.weight"] = nn.functional.pad(down, (0, 0, 0, missing))
        tensors[f"{PREFIX}{name}.lora_B.weight"] = nn.functional.pad(up * update.scale, (0, missing))
        if update.m is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = update.m
    old = adapter.config
    patterns = {name: rank for name, rank in ranks.items() if rank != max_rank}
    config = LoraConfig(
        task_type=old.task_type, base_model_name_or_path=old.base_model_name_or_path, revision=old.revision,
        inference_mode=True, r=max_rank, lora_alpha=max_rank, target_modules=sorted(exported) or ["none"],
        rank_pattern=patterns, alpha_pattern=dict(patterns), modules_to_save=old.modules_to_save, bias=old.bias,
        fan_in_fan_out=old.fan_in_fan_out, use_dora=dora,
    )  # fmt: skip
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, to / FILES[0],
              {"format": "pt"})  # fmt: skip
    config.save_pretrained(str(to))
    if Path(adapter.folder).is_dir():
        for file in Path(adapter.folder).iterdir():
            if file.is_file() and file.name not in (*FILES, "README.md") and file.stat().st_size < 2**26:
                shutil.copyfile(file, to / file.name)  # the tokenizer's


def _stored_name(name: str, adapted: Mapping[str, LowRankUpdate]) -> str:
    """PEFT's name of a parameter of the base model."""
    layer, _, leaf = name.rpartition(".")
    return f"{PREFIX}{layer}.base_layer.{leaf}" if layer in adapted else f"{PREFIX}{name}"


def _check_options(folder: str, config: Any) -> None:
    """Check that an adapter computes what plain LoRA does on an unchanged base model.

    Raises:
        AutorankError: It does not.
    """
    if option := next((name for name in UNSUPPORTED if getattr(config, name, None)), None):
        raise AutorankError(f"{folder} uses {option}, so it is not plain LoRA. Such adapters cannot be cut.")
    if config.init_lora_weights not in INITIALIZATIONS:
        raise AutorankError(
            f"{folder} was initialized by {config.init_lora_weights!r}, which changes the base model's weights. "
            "Convert it first: PEFT's save_pretrained with path_initial_model_for_weight_conversion."
        )


def _sort(folder: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The factors of each layer, and all other tensors by their names in the base model."""
    layers: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key.removeprefix(PREFIX)
        part = next((part for part in sorted(PARTS, key=len, reverse=True) if name.endswith(f".{part}")), None)
        if part is not None and value.ndim == (1 if PARTS[part] == "m" else 2):
            layers.setdefault(name.removesuffix(f".{part}"), {})[PARTS[part]] = value.float()
        elif "lora_" in name:
            raise AutorankError(
                f"{folder} has LoRA on {name}, an embedding, a convolution, a bias or a fused layer; only adapters of "
                "linear layers can be cut."
            )
        else:
            others[name.replace(".base_layer.", ".")] = value  # the bias of an adapted layer
    if not layers:
        raise AutorankError(f"{folder} adapts no linear layer, so there is nothing to cut.")
    return layers, others


def _update(name: str, parts: Mapping[str, Tensor], config: Any) -> LowRankUpdate:
    from peft.utils.other import get_pattern_key

    A, B = parts["A"], parts["B"]
    if "E" in parts:
        alpha = config.lora_alpha if config.lora_alpha > 0 else config.init_r
        A, scale = A * parts["E"], alpha / (config.init_r + 1e-5)
    else:
        alphas: dict[str, float] = config.alpha_pattern or {}
        alpha = alphas.get(get_pattern_key(list(alphas), name), config.lora_alpha)
        scale = alpha / (math.sqrt(len(A)) if config.use_rslora else len(A))
    m = nn.Parameter(parts["m"]) if "m" in parts else None
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), scale, m=m)
