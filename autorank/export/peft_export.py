"""From an adapter to what others load: a PEFT LoRA adapter, exactly, a plain model, or autorank's own format."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from autorank.errors import AutorankError
from autorank.export import padding
from autorank.export.output_dir import Files, whole, write
from autorank.modeling import adapter_file, adapters, base_model
from autorank.modeling.base_model import BaseModel
from autorank.modeling.greedy_decoding import greedy
from autorank.modeling.hub_access import hub_access, public_name
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.remote_code import trusted

T = TypeVar("T")
TASK_TYPES = {"classification": "SEQ_CLS", "regression": "SEQ_CLS", "span": "QUESTION_ANS"}  # PEFT's names of kinds


def to_peft(
    adapter: Path, folder: Path, card: str, files: Files | None = None, max_length: int | None = None,
    pad: bool = False,
) -> None:  # fmt: skip
    """Write `adapter` as a PEFT LoRA adapter whose logits are the same, with tokenizer and `card` as its README.md.

    Every update is A' = A and B' = s · diag(u) · B · diag(e), each layer has its own rank and alpha, a layer of rank 0
    is left out, and layers that share an update get a copy each. Updates with a factor m become PEFT's DoRA; where a
    start is subtracted, the adapter has twice the rank, as PEFT's own conversion of PiSSA.

    Args:
        files: what else to write.
        max_length: tokens of the task's texts, which the tokenizer is told; None: what its model takes.
        pad: one rank and one alpha for all layers, filled up with zeros; see `autorank.export.padding`.

    Raises:
        AutorankError: `folder` is there already, nothing is adapted, or no PEFT adapter can hold it.
    """
    from peft import get_peft_model

    refuse_peft(adapter)
    trained, origin = adapter_file.load(adapter)
    updates = {name: layer.update for name, layer in adapters.adapted(trained.model).items() if layer.update.rank > 0}
    dora = _given_norms(trained)
    if dora and pad:
        raise AutorankError(
            "The rows of the adapted weights have norms of their own (DoRA), which servers that want one rank do not "
            "know. Leave --pad out, or use --merge."
        )
    adapters.detach_all(trained.model)
    settings, factors = _one_rank(trained, updates) if pad else _own_ranks(updates)
    config = _lora_config(trained, origin, set(updates), settings, dora)
    tell(trained.model.config, origin)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT's, of transformers' next version
        wrapped: Any = get_peft_model(trained.model, config)
    with torch.no_grad():
        for name, (down, up) in factors.items():
            layer = wrapped.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)
            if dora:
                layer.lora_magnitude_vector["default"].weight.copy_(updates[name].m)
    with whole(folder) as partial:
        wrapped.save_pretrained(partial, save_embedding_layers=False)  # else PEFT asks the Hub whether they changed
        tokenizer(origin, max_length).save_pretrained(partial)
        write(partial, card, files)


def to_own(adapter: Path, folder: Path, card: str, files: Files | None = None) -> None:
    """Write `adapter` as it is, for `autorank.load_adapter`.

    Raises:
        AutorankError: `folder` is there already.
    """
    with whole(folder) as partial:
        shutil.copyfile(adapter, partial / adapter_file.FILE)
        write(partial, card, files)


def to_merged(
    adapter: Path, folder: Path, card: str, files: Files | None = None, max_length: int | None = None
) -> None:
    """Write the base with `adapter` added into its weights: a plain transformers model, tokenizer included.

    `files` and `max_length` as for `to_peft`.

    Raises:
        AutorankError: `folder` is there already, or the adapter has bottlenecks, which no weight can take.
    """
    refuse_merging(adapter)
    trained, origin = adapter_file.load(adapter)
    merge(trained)
    tell(trained.model.config, origin)
    words = tokenizer(origin, max_length)
    if origin.kind == "generation":
        start = getattr(trained.model.config, "decoder_start_token_id", None)
        trained.model.generation_config = greedy(words.eos_token_id, origin.pad_id, start)
    with whole(folder) as partial:
        with base_model.quiet():
            trained.model.save_pretrained(partial)
        words.save_pretrained(partial)
        write(partial, card, files)


def refuse_peft(adapter: Path) -> None:
    """Raise AutorankError if no PEFT LoRA adapter can hold what is in this file."""
    if not adapter_file.low_rank(adapter):
        raise AutorankError(
            f"{adapter} is not made of low-rank updates, so there is no PEFT LoRA adapter of it. `autorank export` "
            "writes it in autorank's own format (without --pad), and with --merge as a plain model if it can be merged."
        )


def refuse_merging(adapter: Path) -> None:
    """Raise AutorankError if what is in this file cannot be added into the base's weights."""
    if adapter_file.bottlenecked(adapter):
        raise AutorankError(
            f"{adapter} has bottlenecks, which are not linear, so they cannot be merged into the model's weights. "
            "Leave --merge out: then it is written in autorank's own format."
        )


@torch.no_grad()
def merge(trained: BaseModel) -> None:
    """Add every update into the weight it adapts, and take it off."""
    layers = adapters.adapted(trained.model)
    deltas = {name: layer.delta_weight() for name, layer in layers.items()}
    adapters.detach_all(trained.model)
    for name, delta in deltas.items():
        layer = trained.model.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight.add_(delta if isinstance(layer, nn.Linear) else delta.T)  # transformers' Conv1D: in x out


def _given_norms(trained: BaseModel) -> bool:
    """Whether the updates have a factor m.

    Raises:
        AutorankError: only some have, or one of rank 0, which PEFT's `use_dora` cannot say.
    """
    updates = {name: layer.update for name, layer in adapters.adapted(trained.model).items()}
    given = [name for name, update in updates.items() if update.m is not None and update.rank > 0]
    if given and len(given) < len(updates):
        other = next(name for name in updates if name not in given)
        raise AutorankError(
            f"The rows of {given[0]} have norms of their own (DoRA) and those of {other} have not, or its rank is 0. "
            "A PEFT adapter cannot hold both; use --merge."
        )
    return bool(given)


def _whole_modules(trained: BaseModel, adapted: set[str]) -> list[str]:
    """The modules that PEFT keeps whole: the head, and whatever else of the base trained.

    Raises:
        AutorankError: one of them has an update too, which PEFT cannot have both.
    """
    others = {base_model.owner(name) for name, p in trained.model.named_parameters() if p.requires_grad} - {""}
    if both := others & adapted:
        raise AutorankError(f"{min(both)} trained beside its update, which a PEFT adapter cannot hold; use --merge.")
    return sorted(others | set(trained.head_modules))


def _task_type(trained: BaseModel, origin: adapter_file.Origin) -> str:
    """PEFT's name of the kind of task."""
    if origin.kind == "generation":
        return "SEQ_2_SEQ_LM" if getattr(trained.model.config, "is_encoder_decoder", False) else "CAUSAL_LM"
    return TASK_TYPES[origin.kind]


def _own_ranks(updates: Mapping[str, LowRankUpdate]) -> tuple[dict[str, Any], padding.Factors]:
    """PEFT's settings with a rank and an alpha for each layer, and the layers' A and B."""
    factors = {name: update.folded() for name, update in updates.items()}
    ranks = {name: len(down) for name, (down, _) in factors.items()}
    # The scale stays apart: plain LoRA's numbers are kept bit for bit. Rounded, for 16 and not 15.999…
    alphas = {name: round(update.scale * ranks[name], 6) for name, update in updates.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(updates),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
    }, factors


def _one_rank(trained: BaseModel, updates: Mapping[str, LowRankUpdate]) -> tuple[dict[str, Any], padding.Factors]:
    """PEFT's settings with one rank, the highest, and an alpha that scales nothing; and the layers' A and B."""
    factors = padding.padded(trained.model, updates)
    rank = len(next(iter(factors.values()))[0])
    return {"r": rank, "lora_alpha": rank, "target_modules": padding.ends(trained.model, factors)}, factors


def _lora_config(
    trained: BaseModel, origin: adapter_file.Origin, adapted: set[str], settings: dict[str, Any], dora: bool
) -> Any:
    from peft import LoraConfig

    config = LoraConfig(
        task_type=_task_type(trained, origin),
        inference_mode=True,
        modules_to_save=_whole_modules(trained, adapted),
        use_dora=dora,
        **settings,
    )
    config.base_model_name_or_path = public_name(origin.model) or origin.model
    return config


def _commonest(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def tell(config: PreTrainedConfig, origin: adapter_file.Origin) -> None:
    """Tell a config what the head means, so that pipelines name classes and leave a regression's values as they are."""
    if origin.label_names:
        config.id2label = dict(enumerate(origin.label_names))
        config.label2id = {name: i for i, name in enumerate(origin.label_names)}
    if origin.kind == "regression":
        config.problem_type = "regression"
    config.pad_token_id = origin.pad_id


def tokenizer(origin: adapter_file.Origin, max_length: int | None) -> Any:
    """The base's tokenizer, which cuts where training did: at `max_length` tokens, if its model takes as many."""
    from transformers import AutoTokenizer

    with hub_access("model", origin.model):
        loaded = AutoTokenizer.from_pretrained(origin.model, trust_remote_code=trusted())
    if max_length is not None:
        loaded.model_max_length = min(max_length, loaded.model_max_length)
    return loaded
