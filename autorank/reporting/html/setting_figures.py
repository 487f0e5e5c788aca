"""The effect of the settings: parallel coordinates of trials, and the importance of each setting for the front."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from autorank.reporting.html.document import Figure
from autorank.reporting.html.figures import layout
from autorank.reporting.html.trace_styles import escape_tags
from autorank.reporting.tables import count, setting
from autorank.spec import MethodSpec
from autorank.training.evaluation import best
from autorank.trials.distributions import distributions
from autorank.trials.record import TrialRecord

# the trials near a method's front: a tenth of its trials, at least MIN_TOP_TRIALS (as Optuna advises)
MIN_TOP_TRIALS, TOP_FRACTION = 5, 0.1
MIN_TRIALS = 3 * MIN_TOP_TRIALS  # with fewer, the trials near the front are a large part of all


def parallel_coordinates(entry: MethodSpec, trials: Sequence[TrialRecord]) -> Figure | None:
    """One line per trial through a method's searched settings, its parameters and its best score.

    Args:
        entry: The method and its space.
        trials: The method's trials.

    Returns:
        The figure; None if no trial has a score.
    """
    return _lines(entry.space, trials)


def shared_parallel_coordinates(entries: Sequence[MethodSpec], trials: Sequence[TrialRecord]) -> Figure | None:
    """One line per trial of several methods through the settings that all methods search.

    Args:
        entries: The methods and their spaces.
        trials: The trials of all methods.

    Returns:
        The figure; None if no trial has a score.
    """
    shared: dict[str, Any] = {}
    for name in entries[0].space:
        if all(name in entry.space for entry in entries):
            ranges = [entry.space[name] for entry in entries]
            log = all(values.get("log") for values in ranges)
            shared[name] = {"log": log} | ({"choices": []} if any("choices" in values for values in ranges) else {})
    return _lines(shared, trials, methods=True)


def _lines(space: Mapping[str, Any], trials: Sequence[TrialRecord], methods: bool = False) -> Figure | None:
    """The lines of trials; `methods` adds an axis with their methods."""
    scored = [(trial, top) for trial in trials if (top := best(trial.evaluations)) is not None]
    if not scored:
        return None
    axes = [
        _axis(name, [trial.settings.get(name) for trial, _ in scored], bool(values.get("log")), "choices" in values)
        for name, values in space.items()
    ]
    if methods:
        axes.insert(0, _axis("method", [trial.method for trial, _ in scored], choice=True))
    axes.append(_axis("parameters", [max(top.adapter_params, 1) for _, top in scored], log=True))
    scores = [top.score for _, top in scored]
    axes.append(_axis("score", scores))
    scale = [[0, "var(--low)"], [0.5, "var(--middle)"], [1, "var(--high)"]]
    lines = {
        "type": "parcoords", "dimensions": axes, "labelangle": -20, "rangefont": {"color": "rgba(0,0,0,0)"},
        "line": {"color": scores, "colorscale": scale, "cmin": min(scores), "cmax": max(scores)},
        "unselected": {"line": {"color": "var(--quiet)", "opacity": 0.12}},
    }  # fmt: skip
    left_margin = max(
        72, 24 + 7 * max(map(len, axes[0].get("ticktext", [""])), default=0)
    )  # pixels, for its longest text
    return {"data": [lines], "layout": layout("", "", margin={"l": left_margin, "r": 48, "t": 88, "b": 24})}


def setting_importances(entry: MethodSpec, trials: Sequence[TrialRecord]) -> dict[str, float] | str:
    """How much each setting matters for the hypervolume of a trial.

    PED-ANOVA (Watanabe et al. 2023) as implemented in Optuna. With a third objective trials are ranked by domination,
    ties by their contribution to the hypervolume. Stopped trials have the values that they were expected to reach.

    Args:
        entry: The method and its space.
        trials: The method's trials.

    Returns:
        Setting -> share of the importance, in descending order of importance; or a text that says why there are none.
    """
    scored = [
        trial for trial in trials if trial.sampler_values is not None and all(map(math.isfinite, trial.sampler_values))
    ]
    if len(scored) < MIN_TRIALS:
        return f"It needs {MIN_TRIALS} finished trials with a score; {entry.method} has {len(scored)}."
    ranges = distributions(entry)
    names = [name for name, r in ranges.items() if not r.single() and all(name in t.sampled for t in scored)]
    if len(names) < 2:
        return f"Only one setting of {entry.method} was searched." if names else "No setting was searched."
    import optuna

    from autorank.trials import optuna_logging

    less, more = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    with optuna_logging.quiet():
        study = optuna.create_study(directions=[more, less][: len(scored[0].sampler_values or ())])
    study.add_trials(
        optuna.trial.create_trial(
            values=list(trial.sampler_values or ()), params={name: trial.sampled[name] for name in names},
            distributions={name: ranges[name] for name in names},
        )
        for trial in scored
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(
            target_quantile=max(TOP_FRACTION, MIN_TOP_TRIALS / len(scored))
        )
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)
    return dict(sorted(importances.items(), key=lambda item: (-item[1], names.index(item[0]))))


def importance_figure(importances: Mapping[str, float]) -> Figure:
    """Importances as horizontal bars, the most important setting at the top.

    Args:
        importances: Setting -> share, in descending order of importance.

    Returns:
        The figure.
    """
    names = [*importances][::-1]
    bars = {
        "type": "bar", "orientation": "h", "x": [importances[name] for name in names],
        "y": [escape_tags(name) for name in names], "marker": {"color": "var(--line)"},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>", "texttemplate": "%{x:.0%}", "textposition": "auto",
    }  # fmt: skip
    figure: Figure = {"data": [bars], "layout": layout("share of importance", "", 34 * len(names) + 90)}
    figure["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    figure["layout"]["yaxis"] |= {"type": "category", "showgrid": False}
    return figure


def _axis(name: str, values: Sequence[Any], log: bool = False, choice: bool = False) -> Figure:
    """A dimension. Plotly's dimensions are linear, so logarithms and choices get ticks with the values as texts."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if choice or not numbers:
        texts = list(dict.fromkeys(map(setting, sorted(values, key=None if numbers else setting))))
        positions = [texts.index(setting(value)) for value in values]
        ticks = {"tickvals": list(range(len(texts))), "ticktext": texts, "range": [-0.1, max(len(texts) - 0.9, 0.1)]}
        return {"label": escape_tags(name), "values": positions} | ticks
    if not log:
        return {"label": escape_tags(name), "values": list(values), "range": _span(values)}
    decades = [math.log10(value) for value in values]
    low, high = _span(decades)
    marks = [m * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    marks = [mark for mark in marks if low <= math.log10(mark) <= high]
    if len(marks) > 7:
        marks = [mark for mark in marks if f"{mark:e}".startswith("1")]
    text = count if max(values) >= 1000 else setting
    ticks = {"tickvals": [math.log10(mark) for mark in marks], "ticktext": [text(mark) for mark in marks]}
    return {"label": escape_tags(name), "values": decades, "range": [low, high]} | (ticks if marks else {})


def _span(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [low, high] if low < high else [low - 0.5, high + 0.5]
