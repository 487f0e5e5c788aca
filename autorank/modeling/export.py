"""From an adapter to what others load: a PEFT LoRA adapter, exactly, a plain model, or autorank's own format."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autorank.errors import AutorankError
from autorank.modeling import adapter_file, adapters, base
from autorank.modeling.base import BaseModel
from autorank.modeling.greedy import greedy

T = TypeVar("T")
TASK_TYPES = {"classification": "SEQ_CLS", "regression": "SEQ_CLS", "span": "QUESTION_ANS"}  # PEFT's names of kinds


def to_peft(adapter: Path, folder: Path, card: str) -> None:
    """Write `adapter` as a PEFT LoRA adapter whose logits are the same, with `card` as its README.md.

    Every update is A' = A and B' = s · diag(u) · B · diag(e), each layer has its own rank and alpha, a layer of rank 0
    is left out, and layers that share an update get a copy each. Updates with a factor m become PEFT's DoRA; where a
    start is subtracted, the adapter has twice the rank, as PEFT's own conversion of PiSSA.

    Raises:
        AutorankError: `folder` is there already, nothing is adapted, or no PEFT adapter can hold it.
    """
    from peft import LoraConfig, get_peft_model

    if not adapter_file.low_rank(adapter):
        raise AutorankError(
            f"{adapter} is not made of low-rank updates, so there is no PEFT LoRA adapter of it. `autorank export` "
            "writes it in autorank's own format, and with --merge as a plain model if it can be merged."
        )
    trained, origin = adapter_file.load(adapter)
    folded = {
        name: layer.update for name, layer in adapters.adapted(trained.model).items() if layer.update.rank > 0
    }
    dora = _given_norms(trained)
    adapters.detach_all(trained.model)
    ranks = {name: len(update.folded()[0]) for name, update in folded.items()}
    alphas = {name: round(update.scale * ranks[name], 6) for name, update in folded.items()}  # 16, not 15.999…
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    settings: dict[str, Any] = {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(folded),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "modules_to_save": _whole_modules(trained, set(folded)),
        "use_dora": dora,
    }
    config = LoraConfig(task_type=_task_type(trained, origin), inference_mode=True, **settings)
    config.base_model_name_or_path = origin.model
    _name_labels(trained.model, origin)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT's, of transformers' next version
        wrapped: Any = get_peft_model(trained.model, config)
    with torch.no_grad():
        for name, update in folded.items():
            layer = wrapped.base_model.model.get_submodule(name)
            down, up = update.folded()  # the scale stays apart: plain LoRA's numbers are kept bit for bit
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)
            if update.m is not None:
                layer.lora_magnitude_vector["default"].weight.copy_(update.m)
    with _whole(folder) as partial:
        wrapped.save_pretrained(partial, safe_serialization=True)
        (partial / "README.md").write_text(card)


def to_own(adapter: Path, folder: Path, card: str) -> None:
    """Write `adapter` as it is, for `autorank.load_adapter`.

    Raises:
        AutorankError: `folder` is there already.
    """
    with _whole(folder) as partial:
        shutil.copyfile(adapter, partial / adapter_file.FILE)
        (partial / "README.md").write_text(card)


def to_merged(adapter: Path, folder: Path, card: str) -> None:
    """Write the base with `adapter` added into its weights: a plain transformers model, tokenizer included.

    Raises:
        AutorankError: `folder` is there already, or the adapter has bottlenecks, which no weight can take.
    """
    from transformers import AutoTokenizer

    trained, origin = adapter_file.load(adapter)
    if adapters.bottlenecked(trained.model):
        raise AutorankError(
            f"{adapter} has bottlenecks, which are not linear, so they cannot be merged into the model's weights. "
            "Leave --merge out: then it is written in autorank's own format."
        )
    merge(trained)
    _name_labels(trained.model, origin)
    tokenizer = AutoTokenizer.from_pretrained(origin.model)
    if origin.kind == "generation":
        start = getattr(trained.model.config, "decoder_start_token_id", None)
        trained.model.generation_config = greedy(tokenizer.eos_token_id, origin.pad_id, start)
    with _whole(folder) as partial:
        with base.quiet():
            trained.model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(card)


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
    others = {base.owner(name) for name, p in trained.model.named_parameters() if p.requires_grad} - {""}
    if both := others & adapted:
        raise AutorankError(f"{min(both)} trained beside its update, which a PEFT adapter cannot hold; use --merge.")
    return sorted(others | set(trained.head_modules))


def _task_type(trained: BaseModel, origin: adapter_file.Origin) -> str:
    """PEFT's name of the kind of task."""
    if origin.kind == "generation":
        return "SEQ_2_SEQ_LM" if getattr(trained.model.config, "is_encoder_decoder", False) else "CAUSAL_LM"
    return TASK_TYPES[origin.kind]


def _commonest(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _name_labels(model: PreTrainedModel, origin: adapter_file.Origin) -> None:
    if origin.label_names:
        model.config.id2label = dict(enumerate(origin.label_names))
        model.config.label2id = {name: i for i, name in enumerate(origin.label_names)}


def refuse_taken(folder: Path) -> None:
    """Raise AutorankError if there is something at `folder` already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AutorankError(f"{folder} exists already. Choose another --to, or remove it first.")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete; raises as `refuse_taken`."""
    refuse_taken(folder)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        os.chmod(partial, 0o755)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
