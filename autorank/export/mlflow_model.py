"""Saves an export as a model that `mlflow.transformers` loads, and checks that it can hold the export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.export.base_reference import write_base_reference
from autorank.export.cards.model_card import FIGURE
from autorank.export.cards.usage_snippets import Form, encoder_decoder
from autorank.export.export_point import PointExport
from autorank.export.peft_export import without_deprecations
from autorank.modeling import heads
from autorank.modeling.adapter_file import Origin
from autorank.modeling.loading.hub_access import hub_access


def check_registrable(export: PointExport) -> None:
    """Check that `mlflow.transformers` can hold an export.

    Args:
        export: The export.

    Raises:
        AutorankError: It cannot; the error names the trial and the alternatives.
    """
    point, origin = export.point, export.origin
    subject = f"{point.label.capitalize()}, cannot be registered:"
    if origin.head == heads.SPAN:
        raise AutorankError(
            f"{subject} mlflow.transformers stores pipelines, and transformers has no question-answering pipeline. "
            "Export it with --to DIR or --push-to-hub."
        )
    if encoder_decoder(origin):
        raise AutorankError(
            f"{subject} {origin.model} is an encoder-decoder, and mlflow.transformers has no pipeline for text "
            "generation with these. Export it with --to DIR or --push-to-hub."
        )
    if export.form == "autorank adapter":
        raise AutorankError(
            f"{subject} {point.method} is not a low-rank update, and mlflow.transformers stores no other "
            "adapters. Use --merge if the method can be merged (full, bitfit), choose another point, or export with "
            "--to DIR."
        )


def save_model(to: Path, folder: Path, export: PointExport, model_id: str, base_folder: Path) -> None:
    """Write a model directory that `mlflow.transformers.load_model` reads.

    Args:
        to: The directory to write.
        folder: The written export.
        export: What it holds; see `check_registrable`.
        model_id: The id of the logged model in MLflow.
        base_folder: The directory for an adapter's reference to its base model.
    """
    import mlflow.transformers
    from huggingface_hub import ModelCard
    from mlflow.models import Model
    from transformers import AutoTokenizer

    origin = export.origin
    with hub_access("model", origin.model):
        base = None if export.form == "merged model" else write_base_reference(origin, base_folder)
        model = _load(base or folder, origin)
        model.name_or_path = model.config.name_or_path = origin.public_model
        if base is not None:
            from peft import PeftModel

            with without_deprecations():
                model = PeftModel.from_pretrained(model, folder).eval()
        mlflow.transformers.save_model(
            {"model": model, "tokenizer": AutoTokenizer.from_pretrained(folder)},
            to,
            task=origin.head.pipeline,
            mlflow_model=Model(model_id=model_id),
            base_model_path=None if base is None else str(base),
            model_card=ModelCard((folder / "README.md").read_text(encoding="utf-8")),
            model_config={"truncation": True} if origin.outputs else None,
            pip_requirements=_requirements(export.form),
        )
    if (folder / FIGURE).exists():
        shutil.copyfile(folder / FIGURE, to / FIGURE)


def _load(folder: Path, origin: Origin) -> Any:
    """The merged model or the base model in a directory."""
    import torch
    from transformers import AutoConfig

    from autorank.modeling.loading.auto_model import auto_class, quiet

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with quiet():
        return auto_class(origin.head, config).from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)


def _requirements(form: Form) -> list[str]:
    """The packages that load the model, at the installed versions."""
    from importlib.metadata import version

    names = ["torch", "transformers", *([] if form == "merged model" else ["peft"])]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]
