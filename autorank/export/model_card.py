"""Model cards: what an export is, its scores, how it is loaded and how it is made again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from autorank.export.card_metadata import front_matter, licence
from autorank.export.usage_snippets import Form, code
from autorank.modeling.adapter_file import Origin
from autorank.modeling.hub_access import public_name
from autorank.reporting.tables import count
from autorank.spec import SearchSpec, TrainSpec
from autorank.trials.confirmation_stats import best_gain, summarise
from autorank.trials.front import Point
from autorank.trials.snapshot import Snapshot

FIGURE = "front.png"


@dataclass(frozen=True)
class Found:
    """The search that a point comes from."""

    spec: SearchSpec
    snapshot: Snapshot
    reference: tuple[float, float]  # the corner of its hypervolume: parameters, score


def model_card(point: Point, train: TrainSpec, origin: Origin, form: Form, found: Found | None = None) -> str:
    """Markdown with the Hub's metadata: what it is, its score, how to load and how to reproduce it."""
    name = public_name(origin.model) or origin.model
    head = "; the head comes on top" if origin.outputs else ""
    settings = "\n".join(f"| {name} | {value} |" for name, value in point.config.items())
    known = licence(origin.model)
    return f"""{front_matter(point, train, origin, form, known)}
# {train.method} on {train.task.name}

{"An" if form[0] == "a" else "A"} {form} for `{name}`, trained by autorank
for {point.step} optimizer steps. It has {point.adapter_params:,} adapter parameters
({count(point.adapter_params)}), of which {point.nonzero_params:,} are not zero{head}.
{_padding(form)}
{_scores(point, train, found)}

The base model's licence: {known or f"see that of `{name}`"}.

## Load it

```python
{code(origin, form, train)}
```

## Reproduce it

```sh
{command(train, point.config)}
```

| setting | value |
|---|---|
{settings}
"""


def _padding(form: Form) -> str:
    if form != "padded PEFT adapter":
        return ""
    return (
        "\nIn this folder all layers have one rank and one alpha, filled up with zeros, for servers that want one;\n"
        "the zeros are not counted.\n"
    )


def _scores(point: Point, train: TrainSpec, found: Found | None) -> str:
    """A table of what was measured, what it is worth, and the front."""
    where = "a part of the training data, held out" if train.task.tune_split else "validation"
    rows = [(name, f"{value:.4f}") for name, value in point.metrics.items()]
    worth = "It was chosen by its score on these data, so the score is optimistic."
    picture = ""
    if found is not None:
        again = summarise(found.snapshot.points, found.snapshot).get((point.trial, point.step))
        if again is not None:
            rows.append((f"score on validation, trained again with {again.seeds} fresh seeds", str(again)))
            worth = "It was chosen by its score on the data above; what was trained again is the honest figure."
        if (above := best_gain(point, found.snapshot, again)) is not None:
            how = "" if again is None else ", both trained again"
            rows.append((f"score above plain LoRA with no more parameters{how}", f"{above:+.4f}"))
        picture = (
            f"\n\n![The front of the search {found.spec.name}, this point ringed]({FIGURE})\n\n"
            f"Trial {point.trial}, step {point.step} of the search `{found.spec.name}`."
        )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"| {where} | |\n|---|---|\n{table}\n\n{worth}{picture}"


def command(train: TrainSpec, settings: Mapping[str, Any]) -> str:
    """The `autorank train` command that trains with these settings."""
    task, training = train.task, train.training
    options: dict[str, Any] = {
        "method": train.method, "task": None if task.own_data else task.name, "data": task.data,
        "text": ",".join(task.text) or None, "label": task.label, "prompt": task.prompt,
        "completion": task.completion, "metric": task.metric, "chat": task.chat, "model": train.model,
        "max_length": task.max_length, "max_train_examples": task.max_train_examples,
        "max_eval_examples": task.max_eval_examples, "tune_split": task.tune_split or None,
        "trust_remote_code": task.trust_remote_code or None,
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
