"""The metadata at the top of a model card, as the Hub reads them, and the license of the base model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from autorank.errors import AutorankError
from autorank.export.cards.usage_snippets import LIBRARIES, Form, encoder_decoder
from autorank.modeling import heads
from autorank.modeling.adapter_file import Origin
from autorank.modeling.loading.hub_access import hub_access, public_name
from autorank.spec import TrainSpec
from autorank.trials.point import Point


def front_matter(point: Point, train: TrainSpec, origin: Origin, form: Form, license: str | None) -> str:
    """The metadata of a model card.

    Args:
        point: The exported point.
        train: How its adapter was trained.
        origin: The base model and the head of the adapter.
        form: The form of the export.
        license: The base model's license; it holds for a merged model, which contains the base model's weights.

    Returns:
        YAML between two lines of dashes.
    """
    merged, tag = form == "merged model", pipeline_tag(origin)
    base = public_name(origin.model)  # None: a local directory, which the Hub cannot link
    data = {
        "base_model": base,
        "base_model_relation": None if base is None else "finetune" if merged else "adapter",
        "library_name": LIBRARIES[form],
        "pipeline_tag": tag,
        "license": license if merged else None,
        "tags": ["autorank", *(["lora"] if "PEFT" in form else [])],
        "model-index": [{"name": f"{train.method} on {train.task.name}", "results": [_result(point, train, tag)]}],
    }
    text = yaml.safe_dump({name: value for name, value in data.items() if value}, sort_keys=False)
    return f"---\n{text}---\n"


def pipeline_tag(origin: Origin) -> str:
    """The Hub's name of the pipeline of the model."""
    return heads.TEXT_TO_TEXT.pipeline if encoder_decoder(origin) else origin.head.pipeline


def base_license(model: str) -> str | None:
    """The license in a model's card.

    Args:
        model: A local directory or a name on the Hub.

    Returns:
        The license's name; None where no card names one.
    """
    card = _card(model)
    if card is None:
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        metadata = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
    except (yaml.YAMLError, ValueError):  # ValueError: an invalid date
        return None
    license = metadata.get("license") if isinstance(metadata, dict) else None
    return license if isinstance(license, str) else None


def _card(model: str) -> Path | None:
    """A model's card: in its directory, or else from the Hub, since loading a model does not download its card."""
    from huggingface_hub import hf_hub_download

    local, name = Path(model) / "README.md", public_name(model)
    if local.is_file() or name is None:
        return local if local.is_file() else None
    try:
        with hub_access("model", name):
            return Path(hf_hub_download(name, "README.md"))
    except AutorankError:  # no card, no network, no access
        return None


def _result(point: Point, train: TrainSpec, tag: str) -> dict[str, Any]:
    """An entry of the Hub's model-index; `tag` is that of `pipeline_tag`."""
    from autorank.tasks import TASKS
    from autorank.tasks.reading.location import on_hub

    task = train.task
    dataset: dict[str, Any] = {"name": task.name, "type": task.name}
    hub = (on_hub(task.data) if task.data else None) or (None if task.own_data else TASKS[task.name].hub)
    if hub:
        dataset |= {"type": hub[0]} | ({"config": hub[1]} if hub[1] else {})
    dataset["split"] = "train" if task.tune_split else "validation"
    metrics = [
        {"type": name, "value": round(value, 6)} for name, value in point.metrics.items() if math.isfinite(value)
    ]
    return {"task": {"type": tag}, "dataset": dataset, "metrics": metrics}
