"""An export as a model that `mlflow.transformers` loads, and what it cannot hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.export.base_reference import reference
from autorank.export.card_metadata import KINDS
from autorank.export.model_card import FIGURE
from autorank.export.usage_snippets import Form, encoder_decoder
from autorank.modeling.adapter_file import Origin
from autorank.modeling.hub_access import hub_access, public_name
from autorank.trials.front import Point


def refuse(form: Form, origin: Origin, point: Point) -> None:
    """Raise AutorankError for what `mlflow.transformers` cannot hold, naming the point."""
    where = f"Trial {point.trial}, step {point.step}, cannot be registered:"
    if origin.kind == "span":
        raise AutorankError(
            f"{where} mlflow.transformers holds pipelines, and transformers has none for a span task. "
            "Export it with --to DIR or --push-to-hub."
        )
    if encoder_decoder(origin):
        raise AutorankError(
            f"{where} {origin.model} is an encoder-decoder, and the pipelines that mlflow.transformers holds write "
            "with decoders alone. Export it with --to DIR or --push-to-hub."
        )
    if form == "autorank adapter":
        raise AutorankError(
            f"{where} {point.method} is no low-rank update of the base, which is what mlflow.transformers holds as an "
            "adapter. Use --merge where it can be merged (full, bitfit), choose another point, or export with --to DIR."
        )


def save(to: Path, export: Path, form: Form, origin: Origin, model_id: str, base_folder: Path) -> None:
    """Write what `mlflow.transformers.load_model` reads.

    Args:
        export: the exported folder, in a form that is not refused.
        base_folder: where an adapter's reference to its base is kept.
    """
    import mlflow.transformers
    from huggingface_hub import ModelCard
    from mlflow.models import Model
    from transformers import AutoTokenizer

    with hub_access("model", origin.model):
        base = None if form == "merged model" else reference(origin, base_folder)
        model = _loaded(export, origin, base)
        model.name_or_path = model.config.name_or_path = public_name(origin.model) or origin.model
        if base is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, export).eval()
        mlflow.transformers.save_model(
            {"model": model, "tokenizer": AutoTokenizer.from_pretrained(export)},
            to,
            task=KINDS[origin.kind],
            mlflow_model=Model(model_id=model_id),
            base_model_path=None if base is None else str(base),
            model_card=ModelCard((export / "README.md").read_text(encoding="utf-8")),
            model_config={"truncation": True} if origin.outputs else None,
            pip_requirements=_requirements(form),
        )
    if (export / FIGURE).exists():
        shutil.copyfile(export / FIGURE, to / FIGURE)


def _loaded(export: Path, origin: Origin, base: Path | None) -> Any:
    """The merged model, or the base that `base` refers to."""
    import torch
    from transformers import AutoConfig

    from autorank.modeling.base_model import auto_class, quiet

    folder = export if base is None else base
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with quiet():
        return auto_class(origin.kind, config).from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)


def _requirements(form: Form) -> list[str]:
    """What loads it, at the versions that wrote it."""
    from importlib.metadata import version

    names = ["torch", "transformers", *([] if form == "merged model" else ["peft"])]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]
