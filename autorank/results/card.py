"""The model card of an exported adapter."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from autorank.errors import AutorankError
from autorank.modeling.adapter_file import Origin
from autorank.results.front import Point
from autorank.results.report import count
from autorank.spec import TrainSpec


def export_point(adapter: Path, to: Path, point: Point, train: TrainSpec, merged: bool) -> None:
    """Write a point's adapter, with its card, as a PEFT adapter or merged into its base.

    Raises:
        AutorankError: the adapter is not there (only those on the front are kept), or `to` is taken.
    """
    from autorank.modeling import adapter_file, export

    if not adapter.is_file():
        raise AutorankError(
            f"The adapter of trial {point.trial}, step {point.step} is not at {adapter}. Train it again:\n"
            f"  {command(train, point.config)} --to {to}"
        )
    origin = adapter_file.origin(adapter)
    card = model_card(point, train, origin, merged)
    (export.to_merged if merged else export.to_peft)(adapter, to, card)


def model_card(point: Point, train: TrainSpec, origin: Origin, merged: bool) -> str:
    """Markdown with the Hub's metadata: what it is, its score, how to load and how to reproduce it."""
    front_matter = yaml.safe_dump(
        {
            "base_model": origin.model,
            "library_name": "transformers" if merged else "peft",
            "tags": ["autorank", "lora"],
        },
        sort_keys=False,
    )
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in point.metrics.items())
    settings = "\n".join(f"| {name} | {value} |" for name, value in point.config.items())
    return f"""---
{front_matter}---

# {train.method} on {train.task.name}

{"A merged model" if merged else "A PEFT adapter"} for `{origin.model}`, trained by autorank
for {point.step} optimizer steps. It has {point.adapter_params:,} adapter parameters
({count(point.adapter_params)}), of which {point.nonzero_params:,} are not zero; the classification head comes on top.

| {"a part of the training data, held out" if train.task.tune_split else "validation"} | |
|---|---|
{scores}

It was chosen by its score on these data, so the score is optimistic.

## Load it

```python
{_loading(origin, merged)}
```

## Reproduce it

```sh
{command(train, point.config)}
```

| setting | value |
|---|---|
{settings}
"""


def command(train: TrainSpec, settings: Mapping[str, Any]) -> str:
    """The `autorank train` command that trains with these settings."""
    task, training = train.task, train.training
    options: dict[str, Any] = {
        "method": train.method, "task": None if task.own_data else task.name, "data": task.data,
        "text": ",".join(task.text) or None, "label": task.label, "model": train.model,
        "max-length": task.max_length, "max-train-examples": task.max_train_examples,
        "max-eval-examples": task.max_eval_examples, "epochs": training.epochs, "steps": training.steps,
        "batch-size": training.batch_size, "eval-every": training.eval_every, "seed": training.seed,
    }  # fmt: skip
    if training.accumulate != 1:
        options["accumulate"] = training.accumulate
    if task.tune_split:
        options["tune-split"] = task.tune_split
    if training.precision != "auto":
        options["precision"] = training.precision
    words = ["autorank", "train"]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    for name, value in settings.items():
        words += ["--set", f"{name}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: Any) -> str:
    """A setting's value as --set reads it."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _loading(origin: Origin, merged: bool) -> str:
    if merged:
        return """from transformers import AutoModelForSequenceClassification

model = AutoModelForSequenceClassification.from_pretrained("this folder")"""
    names = f"\n    id2label={dict(enumerate(origin.label_names))!r}," if origin.label_names else ""
    return f"""import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

base = AutoModelForSequenceClassification.from_pretrained(
    {origin.model!r},
    num_labels={origin.outputs},
    pad_token_id={origin.pad_id},
    dtype=torch.float32,{names}
)
model = PeftModel.from_pretrained(base, "this folder")"""
