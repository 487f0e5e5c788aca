"""Checks of a checkpoint: PEFT adapters in its directory, quantized weights, missing layers."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.modeling.loading import quantization

# Formats that transformers converts to ordinary weights while loading.
DEQUANTIZED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
BITSANDBYTES = "bitsandbytes"


def refuse_adapter(model: str) -> None:
    """Refuse a PEFT adapter, and a model with an adapter's configuration next to it.

    transformers would load the base model that the adapter names instead of the weights in the directory.

    Args:
        model: Directory or name on the Hub.

    Raises:
        AutorankError: There is an adapter_config.json.
    """
    from transformers.utils.hub import cached_file
    from transformers.utils.peft_utils import find_adapter_config_file

    file = find_adapter_config_file(model)
    if file is None:
        return
    base = json.loads(Path(file).read_text(encoding="utf-8")).get("base_model_name_or_path")
    missing_allowed = {"_raise_exceptions_for_missing_entries": False}
    if cached_file(model, "config.json", **missing_allowed) is None:
        raise AutorankError(
            f"{model!r} is a PEFT adapter of {base!r}, not a model. Use its base model (--model {base}), or merge the "
            "adapter into it first: PeftModel.merge_and_unload() of the package peft, then save_pretrained(DIR)."
        )
    raise AutorankError(
        f"Model {model!r} has an adapter_config.json next to its config.json, so transformers would load the adapter's "
        f"base model {base!r} instead. If the adapter does not belong to the model, remove adapter_config.json. "
        "Otherwise merge it first: PeftModel.merge_and_unload() of the package peft, then save_pretrained(DIR)."
    )


def quantized_loading(model: str, config: Any, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a checkpoint whose weights may be quantized.

    Weights of bitsandbytes stay quantized, as with `--quantize`. FP8 and MXFP4 are converted to ordinary weights.

    Args:
        model: Directory or name on the Hub, for messages.
        config: The model's config.
        device: Device of the model.

    Returns:
        The arguments; none for ordinary weights.

    Raises:
        AutorankError: The format is not supported, or this machine cannot load it.
    """
    import transformers

    stored = stored_quantization(config)
    if stored is None:
        return {}
    if stored in DEQUANTIZED:
        return {"quantization_config": getattr(transformers, DEQUANTIZED[stored])(dequantize=True)}
    if stored != BITSANDBYTES:
        raise AutorankError(
            f"The weights of model {model!r} are quantized ({stored}), and autorank cannot train adapters on them. "
            "Use the original model, with --quantize 4bit if memory is scarce."
        )
    if problem := quantization.problem():
        raise AutorankError(
            f"The weights of model {model!r} are quantized (bitsandbytes), which needs {problem}. Use the original "
            "model instead."
        )
    return {"device_map": {"": device}}


def stored_quantization(config: Any) -> str | None:
    """The format of a checkpoint's quantized weights, such as "gptq"; None for ordinary weights."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    settings = stored if isinstance(stored, dict) else stored.to_dict()
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return BITSANDBYTES
    method = settings.get("quant_method", "unknown format")
    return str(getattr(method, "value", method))


def refuse_other_sizes(model: str, prefix: str, mismatched: Collection[tuple[str, Any, Any]]) -> None:
    """Refuse a checkpoint with weights of other sizes outside the head, which would be random.

    Args:
        model: Directory or name on the Hub, for messages.
        prefix: Name of the backbone within the model.
        mismatched: Name of each weight whose size differs, its shape in the checkpoint, and in the model.

    Raises:
        AutorankError: Weights of the backbone are among them.
    """
    backbone = sorted(item for item in mismatched if f".{prefix}." in f".{item[0]}" and "pooler" not in item[0])
    if backbone:
        name, stored, needed = backbone[0]
        raise AutorankError(
            f"The weights of model {model!r} do not match its config.json ({len(backbone)}, including {name}: "
            f"{list(stored)}, but {list(needed)} by config.json). Use a complete model, or correct its config.json."
        )


def refuse_missing_layers(model: str, new: Collection[str]) -> None:
    """Refuse a checkpoint that lacks layers or embeddings: they would be random, and stay so.

    Args:
        model: Directory or name on the Hub, for messages.
        new: Names of the parameters that the checkpoint lacks.

    Raises:
        AutorankError: Parameters of layers or embeddings are among them.
    """
    missing = sorted(name for name in new if any(_is_of_backbone(part) for part in name.split(".")))
    if not missing:
        return
    remedy = "Its config.json does not match its weights. Use a complete model."
    if all(".decoder." in f".{name}" for name in missing):
        remedy = "It contains only an encoder, but this architecture needs encoder and decoder. Use a complete model."
    raise AutorankError(
        f"Model {model!r} lacks weights of its layers ({len(missing)}, including {missing[0]}). {remedy}"
    )


def _is_of_backbone(part: str) -> bool:
    """Whether a part of a parameter's name is the number of a layer, or an embedding."""
    return part.isdigit() or part in ("wte", "wpe", "shared") or "embedding" in part or part.startswith("embed_")
