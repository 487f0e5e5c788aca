"""An adapter on disk: one safetensors file with its tensors, its layout and the base model that it belongs to."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from autorank import durable
from autorank.errors import AutorankError
from autorank.modeling import adapters, base

FORMAT = "autorank adapter 1"


@dataclass(frozen=True)
class Origin:
    """What an adapter belongs to: the base model and the head's meaning."""

    model: str  # folder or Hub name
    outputs: int  # width of the head
    label_names: tuple[str, ...]  # empty for regression
    pad_id: int  # the padding token, by which decoders find the last token of a text


def save(path: Path, trained: base.BaseModel, belongs: Origin) -> None:
    """Write all that differs from the base: factors, head, whatever else trained. Appears whole or not at all.

    Components that were there for training alone are left out.

    Raises:
        AutorankError: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    values = {name: p.detach().cpu().contiguous() for name, p in adapters.tensors(trained.model, counting=True).items()}
    about = {"format": FORMAT, "origin": asdict(belongs), "layout": adapters.layout(trained.model, counting=True)}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(values, partial, {"autorank": json.dumps(about)})
        durable.put(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise AutorankError(f"No space left on the disk of {path.parent}; free some, then go on.") from error
        raise


def load(path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[base.BaseModel, Origin]:
    """The base model with this adapter on it, in evaluation mode.

    Raises:
        AutorankError: the file is missing or not an adapter, or its base model cannot be loaded.
    """
    from safetensors.torch import load_file

    belongs = origin(path)
    restored = base.load(belongs.model, belongs.outputs, dtype, device)
    restored.model.config.pad_token_id = belongs.pad_id
    values = load_file(path, device=device)
    adapters.rebuild(restored.model, _about(path)["layout"], device)
    known = dict(restored.model.named_parameters())
    restored.unfreeze(name for name in values if ".update." not in name and name in known)
    adapters.load_tensors(restored.model, values)
    restored.model.eval()
    return restored, belongs


def origin(path: Path) -> Origin:
    """What the adapter in this file belongs to.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    stored = _about(path)["origin"]
    return Origin(stored["model"], stored["outputs"], tuple(stored["label_names"]), stored["pad_id"])


def _about(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {}).get("autorank", "{}"))
    except (OSError, SafetensorError) as error:
        raise AutorankError(f"No adapter can be read from {path}: {error}.") from error
    if about.get("format") != FORMAT:
        raise AutorankError(f"{path} is not an adapter that autorank wrote (format {about.get('format')!r}).")
    return about
