"""The model card of an exported adapter."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from autorank.errors import AutorankError
from autorank.modeling.adapter_file import Origin
from autorank.results.front import Point
from autorank.results.report import count
from autorank.spec import TrainSpec

Form = Literal["merged model", "PEFT adapter", "autorank adapter"]


def export_point(adapter: Path, to: Path, point: Point, train: TrainSpec, merged: bool) -> Form:
    """Write a point's adapter, with its card, and return as what.

    That is merged into its base if asked for, else a PEFT adapter where PEFT can hold it, else autorank's own format.

    Raises:
        AutorankError: the adapter is not there (only those on the front are kept), or `to` is taken.
    """
    from autorank.modeling import adapter_file, export

    export.refuse_taken(to)
    if not adapter.is_file():
        raise AutorankError(
            f"The adapter of trial {point.trial}, step {point.step} is not at {adapter}. Train it again:\n"
            f"  {command(train, point.config)} --to {to}"
        )
    origin = adapter_file.origin(adapter)
    form: Form = "PEFT adapter" if adapter_file.low_rank(adapter) else "autorank adapter"
    if merged:
        form = "merged model"
    write = {"merged model": export.to_merged, "PEFT adapter": export.to_peft, "autorank adapter": export.to_own}[form]
    write(adapter, to, model_card(point, train, origin, form))
    return form


def model_card(point: Point, train: TrainSpec, origin: Origin, form: Form) -> str:
    """Markdown with the Hub's metadata: what it is, its score, how to load and how to reproduce it."""
    libraries = {"merged model": "transformers", "PEFT adapter": "peft", "autorank adapter": "autorank"}
    front_matter = yaml.safe_dump(
        {
            "base_model": origin.model,
            "library_name": libraries[form],
            "tags": ["autorank", *(["lora"] if form == "PEFT adapter" else [])],
        },
        sort_keys=False,
    )
    head = "; the head comes on top" if origin.outputs else ""
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in point.metrics.items())
    settings = "\n".join(f"| {name} | {value} |" for name, value in point.config.items())
    return f"""---
{front_matter}---

# {train.method} on {train.task.name}

{"An" if form[0] == "a" else "A"} {form} for `{origin.model}`, trained by autorank
for {point.step} optimizer steps. It has {point.adapter_params:,} adapter parameters
({count(point.adapter_params)}), of which {point.nonzero_params:,} are not zero{head}.

| {"a part of the training data, held out" if train.task.tune_split else "validation"} | |
|---|---|
{scores}

It was chosen by its score on these data, so the score is optimistic.

## Load it

```python
{_writing(origin, form, train) if origin.kind == "generation" else _loading(origin, form)}
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
        "text": ",".join(task.text) or None, "label": task.label, "prompt": task.prompt,
        "completion": task.completion, "metric": task.metric, "chat": task.chat, "model": train.model,
        "max_length": task.max_length, "max_train_examples": task.max_train_examples,
        "max_eval_examples": task.max_eval_examples, "tune_split": task.tune_split or None,
        **training.model_dump(exclude_defaults=True), "seed": training.seed,
    }  # fmt: skip
    words = ["autorank", "train"]
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    for name, value in settings.items():
        words += ["--set", f"{name}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: Any) -> str:
    """A setting's value as --set reads it."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _loading(origin: Origin, form: Form) -> str:
    model = "AutoModelForQuestionAnswering" if origin.kind == "span" else "AutoModelForSequenceClassification"
    if form == "merged model":
        return f"""from transformers import {model}

model = {model}.from_pretrained("this folder")"""
    names = f"\n    id2label={dict(enumerate(origin.label_names))!r}," if origin.label_names else ""
    package, load = (
        ("from peft import PeftModel", "PeftModel.from_pretrained")
        if form == "PEFT adapter"
        else ("from autorank import load_adapter", "load_adapter")
    )
    return f"""import torch
{package}
from transformers import {model}

base = {model}.from_pretrained(
    {origin.model!r},
    num_labels={origin.outputs},
    pad_token_id={origin.pad_id},
    dtype=torch.float32,{names}
)
model = {load}(base, "this folder")"""


def _writing(origin: Origin, form: Form, train: TrainSpec) -> str:
    """How a text is written, from the prompt as it was in training."""
    from autorank.tasks import TASKS, generation
    from autorank.tasks.prompting import END_OF_PROMPT, prompting
    from autorank.tasks.tokenise import load_tokenizer

    task = generation.own(train.task.name, "", "") if train.task.own_data else TASKS[train.task.name]
    how = prompting(task, train.task, origin.model, load_tokenizer(origin.model))
    model = "AutoModelForCausalLM" if how.start is None else "AutoModelForSeq2SeqLM"
    package, load = {
        "merged model": ("", "base.eval()"),
        "PEFT adapter": ("from peft import PeftModel\n", 'PeftModel.from_pretrained(base, "this folder").eval()'),
        "autorank adapter": ("from autorank import load_adapter\n", 'load_adapter(base, "this folder").eval()'),
    }[form]
    folder = "this folder" if form == "merged model" else origin.model
    decoder = "" if how.start is None else f", decoder_start_token_id={how.start}"
    if how.chat:
        inputs = """tokenizer.apply_chat_template(
    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
    else:
        ended = f" + {END_OF_PROMPT!r}" if how.start is None else ""
        inputs = f'tokenizer(prompt{ended}, return_tensors="pt", return_token_type_ids=False)'
    begin = 'inputs["input_ids"].shape[1]' if how.start is None else "1"
    return f"""import torch
{package}from transformers import {model}, AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained({folder!r})
base = {model}.from_pretrained({folder!r}, dtype=torch.float32)
base.generation_config = GenerationConfig(  # greedy, as it was scored
    eos_token_id={how.tokenizer.eos_token_id}, pad_token_id={origin.pad_id}{decoder}
)
model = {load}

prompt = {task.template.format("...")!r}
inputs = {inputs}
written = model.generate(**inputs, max_new_tokens=256)
print(tokenizer.decode(written[0, {begin}:], skip_special_tokens=True).strip())"""
