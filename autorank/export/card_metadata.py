"""The front matter of a model card, as the Hub reads it, and the base model's licence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from autorank.errors import AutorankError
from autorank.export.usage_snippets import LIBRARIES, Form, encoder_decoder
from autorank.modeling.adapter_file import Origin
from autorank.modeling.hub_access import hub_access, public_name
from autorank.spec import TrainSpec
from autorank.trials.front import Point

KINDS = {  # of tasks, by the Hub's names
    "classification": "text-classification",
    "regression": "text-classification",
    "span": "question-answering",
    "generation": "text-generation",
}


def front_matter(point: Point, train: TrainSpec, origin: Origin, form: Form, known: str | None) -> str:
    """YAML between two lines of dashes. `known`: the base's licence."""
    merged, adapter = form == "merged model", "PEFT" in form
    base, tag = public_name(origin.model), pipeline_tag(origin)
    data = {
        "base_model": base,  # a folder is no base that the Hub could link
        "base_model_relation": None if base is None else "finetune" if merged else "adapter",
        "library_name": LIBRARIES[form],
        "pipeline_tag": tag,
        # an adapter is its maker's own; a merged model holds the base's weights
        "license": known if merged else None,
        "tags": ["autorank", *(["lora"] if adapter else [])],
        "model-index": [{"name": f"{train.method} on {train.task.name}", "results": [_result(point, train, tag)]}],
    }
    text = yaml.safe_dump({name: value for name, value in data.items() if value}, sort_keys=False)
    return f"---\n{text}---\n"


def pipeline_tag(origin: Origin) -> str:
    """The Hub's name of what the model does."""
    return "text2text-generation" if encoder_decoder(origin) else KINDS[origin.kind]


def licence(model: str) -> str | None:
    """The licence that the card of a model names, in its folder or on the Hub; None where none can be read."""
    card = _card(model)
    if card is None:
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        about = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
    except (yaml.YAMLError, ValueError):  # as a date that there is not
        return None
    found = about.get("license") if isinstance(about, dict) else None
    return found if isinstance(found, str) else None


def _card(model: str) -> Path | None:
    """A model's card: in its folder, or else the Hub's, for loading a model does not bring it here."""
    from huggingface_hub import hf_hub_download

    beside, name = Path(model) / "README.md", public_name(model)
    if beside.is_file() or name is None:
        return beside if beside.is_file() else None
    try:
        with hub_access("model", name):
            return Path(hf_hub_download(name, "README.md"))
    except AutorankError:  # no card, no network, no access
        return None


def _result(point: Point, train: TrainSpec, tag: str) -> dict[str, Any]:
    """An entry of the Hub's model-index. `tag`: as of `pipeline_tag`."""
    from autorank.tasks import TASKS

    task = train.task
    dataset: dict[str, Any] = {"name": task.name, "type": task.name}
    if not task.own_data and (hub := TASKS[task.name].hub):
        dataset |= {"type": hub[0], "config": hub[1]}
    dataset["split"] = "train" if task.tune_split else "validation"
    metrics = [
        {"type": name, "value": round(value, 6)} for name, value in point.metrics.items() if math.isfinite(value)
    ]
    return {"task": {"type": tag}, "dataset": dataset, "metrics": metrics}
