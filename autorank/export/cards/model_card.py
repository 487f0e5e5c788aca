"""Model cards: what an export is, its scores, and how to load and to reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from autorank.defaults import SLICES
from autorank.export.cards.card_metadata import base_license, front_matter
from autorank.export.cards.rendering import render
from autorank.export.cards.usage_snippets import Form, usage_code
from autorank.modeling.adapter_file import Origin
from autorank.reporting.certainty_texts import interval_text, percent
from autorank.reporting.search_results import SearchResults
from autorank.reporting.tables import count
from autorank.spec import TrainSpec
from autorank.tasks.own_metric import PICKLE
from autorank.trials.point import Point
from autorank.trials.statistics.confirmation_stats import best_gain
from autorank.trials.statistics.front_statistics import front_statistics

FIGURE = "front.png"  # beside the card


def model_card(point: Point, train: TrainSpec, origin: Origin, form: Form, search: SearchResults | None = None) -> str:
    """The model card of an exported point.

    Args:
        point: The point of the front.
        train: How its adapter was trained.
        origin: The base model and the head of the adapter.
        form: The form of the export.
        search: The search of the point, if it has one: adds the front's figure and the scores with new seeds.

    Returns:
        Markdown with the Hub's metadata.
    """
    license = base_license(origin.model)
    confirmed = None if search is None else front_statistics(search.snapshot).confirmed.get(point.key)
    code = usage_code(origin, form, train)
    card = render(
        "model_card.md",
        front_matter=front_matter(point, train, origin, form, license),
        point=point,
        train=train,
        origin=origin,
        form=form,
        base=origin.public_model,
        base_license=license,
        short_count=count(point.adapter_params),
        data="a held-out part of the training data" if train.task.tune_split else "validation data",
        scores=_scores(point, search),
        confirmed=confirmed,
        search=search,
        figure=FIGURE,
        code=code,
        chat="apply_chat_template" in code,
        command=train_command(train, point.settings),
    )
    return f"{card}\n"


def _scores(point: Point, search: SearchResults | None) -> list[tuple[str, str]]:
    """Names and values of all that was measured."""
    scores = [(name, f"{value:.4f}") for name, value in point.metrics.items()]
    if search is None:
        return scores
    statistics = front_statistics(search.snapshot)
    confirmed = statistics.confirmed.get(point.key)
    if text := interval_text(statistics.certainties.get(point.key)):
        scores.append(("90% interval of the score, over resampled validation examples", text))
    if confirmed is not None:
        scores.append((f"score on validation data, {confirmed.seeds} runs with new seeds", str(confirmed)))
    if (gain := best_gain(point, search.snapshot, confirmed)) is not None:
        of_seeds = confirmed is not None and confirmed.gain_over_baseline is not None
        seeds = ", both with new seeds" if of_seeds else ""
        scores.append((f"gain over plain LoRA with at most as many parameters{seeds}", f"{gain:+.4f}"))
        if (better := statistics.gain_probabilities.get(point.key)) is not None:
            scores.append(("probability that this gain is above 0", percent(better)))
    return scores


def train_command(train: TrainSpec, settings: Mapping[str, Any]) -> str:
    """The `autorank train` command that repeats a training.

    Args:
        train: The task, the model and the training options.
        settings: The method's settings.

    Returns:
        A shell command, quoted where needed. A metric that is a Python function has to be written to FILE.py.
    """
    task, training = train.task, train.training
    is_function = (task.metric_source or "").startswith(PICKLE)
    metric = f"FILE.py:{task.metric}" if is_function else task.metric
    options: dict[str, Any] = {
        "method": train.method, **task.options(given_only=True), "metric": metric, "model": train.model,
        **training.model_dump(exclude_defaults=True),
        "slices": None if training.slices == SLICES else training.slices, "seed": training.seed,
    }  # fmt: skip
    if training.steps is not None:
        options["epochs"] = None  # has no effect with --steps
    words = ["autorank", "train"]
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            words += [f"--{option}", ",".join(name.replace(",", r"\,") for name in value)]
        elif value is not None:
            words += [f"--{option}", str(value)]
    for name, value in settings.items():
        words += ["--set", f"{name}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: Any) -> str:
    """A setting's value as --set reads it."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
