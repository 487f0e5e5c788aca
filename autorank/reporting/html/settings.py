"""What the settings did: parallel coordinates of a method's trials, and which setting matters for its front."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autorank.reporting.html.document import Figure
from autorank.reporting.html.figures import layout
from autorank.reporting.html.trace_styles import safe
from autorank.reporting.tables import count, setting
from autorank.spec import MethodSpec
from autorank.trials.record import TrialRecord, best

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TOP, SHARE = 5, 0.1  # of a method's trials these count as near its front: a tenth, but TOP at least (Optuna's advice)
LEAST = 3 * TOP  # trials; with fewer, those near the front are hardly fewer than all


def parallel(entry: MethodSpec, trials: Sequence[TrialRecord]) -> Figure | None:
    """A line a trial through its searched settings, its parameters and its best score; None without a score."""
    return _lines(entry.space, trials)


def together(entries: Sequence[MethodSpec], trials: Sequence[TrialRecord]) -> Figure | None:
    """The trials of several methods, through the settings that all of them search."""
    shared: dict[str, Any] = {}
    for name in entries[0].space:
        if all(name in entry.space for entry in entries):
            each = [entry.space[name] for entry in entries]
            log = all(one.get("log") for one in each)
            shared[name] = {"log": log} | ({"choices": []} if any("choices" in one for one in each) else {})
    return _lines(shared, trials, methods=True)


def _lines(space: Mapping[str, Any], trials: Sequence[TrialRecord], methods: bool = False) -> Figure | None:
    """`methods`: with an axis that tells them apart."""
    scored = [(trial, top) for trial in trials if (top := best(trial.evaluations)) is not None]
    if not scored:
        return None
    axes = [
        _axis(name, [trial.config.get(name) for trial, _ in scored], bool(each.get("log")), "choices" in each)
        for name, each in space.items()
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
    left = max(72, 24 + 7 * max(map(len, axes[0].get("ticktext", [""])), default=0))  # pixels, for its longest text
    return {"data": [lines], "layout": layout("", "", margin={"l": left, "r": 48, "t": 88, "b": 24})}


def importances(entry: MethodSpec, trials: Sequence[TrialRecord]) -> dict[str, float] | str:
    """Setting -> its share in what makes the difference between a method's trials near its front and all of them.

    PED-ANOVA (Watanabe et al. 2023) as Optuna has it for several objectives: trials are ranked by domination, ties by
    what they add to the hypervolume. A stopped trial stands where samplers took it to end.

    Returns:
        The settings by falling importance; or a text that says why there are none.
    """
    told = [trial for trial in trials if trial.told is not None and all(map(math.isfinite, trial.told))]
    if len(told) < LEAST:
        return f"{LEAST} trials that ended with a score are needed; {entry.method} has {len(told)}."
    ranges = {name: distribution(each) for name, each in entry.space.items()}
    names = [name for name, each in ranges.items() if not each.single() and all(name in t.drawn for t in told)]
    if len(names) < 2:
        return f"Only one setting of {entry.method} was searched." if names else "No setting was searched."
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    less, more = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    study = optuna.create_study(directions=[less, more, less][: len(told[0].told or ())])
    study.add_trials(
        optuna.trial.create_trial(
            values=list(trial.told or ()), params={name: trial.drawn[name] for name in names},
            distributions={name: ranges[name] for name in names},
        )
        for trial in told
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(SHARE, TOP / len(told)))
        found = optuna.importance.get_param_importances(study, evaluator=judge, params=names)
    return dict(sorted(found.items(), key=lambda item: (-item[1], names.index(item[0]))))


def importance_figure(found: Mapping[str, float]) -> Figure:
    """A bar a setting, the most important at the top."""
    names = [*found][::-1]
    bars = {
        "type": "bar", "orientation": "h", "x": [found[name] for name in names], "y": [safe(name) for name in names],
        "marker": {"color": "var(--line)"}, "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
        "texttemplate": "%{x:.0%}", "textposition": "auto",
    }  # fmt: skip
    figure: Figure = {"data": [bars], "layout": layout("share of importance", "", 34 * len(names) + 90)}
    figure["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    figure["layout"]["yaxis"] |= {"type": "category", "showgrid": False}
    return figure


def distribution(entry: Mapping[str, Any]) -> BaseDistribution:
    """What a setting is drawn from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in entry:
        return CategoricalDistribution(entry["choices"])
    log, step = entry.get("log", False), entry.get("step")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a step that does not end at `high`
        if entry["type"] == "int":
            return IntDistribution(entry["low"], entry["high"], log=log, step=step or 1)
        return FloatDistribution(entry["low"], entry["high"], log=log, step=step)


def _axis(name: str, values: Sequence[Any], log: bool = False, choice: bool = False) -> Figure:
    """A dimension. Plotly's are linear numbers: logarithms and choices get ticks that say what they stand for."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if choice or not numbers:
        texts = list(dict.fromkeys(map(setting, sorted(values, key=None if numbers else setting))))
        places = [texts.index(setting(value)) for value in values]
        ticks = {"tickvals": list(range(len(texts))), "ticktext": texts, "range": [-0.1, max(len(texts) - 0.9, 0.1)]}
        return {"label": safe(name), "values": places} | ticks
    if not log:
        return {"label": safe(name), "values": list(values), "range": _span(values)}
    decades = [math.log10(value) for value in values]
    low, high = _span(decades)
    marks = [m * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    marks = [mark for mark in marks if low <= math.log10(mark) <= high]
    if len(marks) > 7:
        marks = [mark for mark in marks if f"{mark:e}".startswith("1")]
    text = count if max(values) >= 1000 else setting
    ticks = {"tickvals": [math.log10(mark) for mark in marks], "ticktext": [text(mark) for mark in marks]}
    return {"label": safe(name), "values": decades, "range": [low, high]} | (ticks if marks else {})


def _span(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [low, high] if low < high else [low - 0.5, high + 0.5]
