"""The sections of a search's page: HTML, and the figures that it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from autorank.reporting.html import figures, rank_maps
from autorank.reporting.html.document import Figure, choice, plot, table
from autorank.reporting.html.settings import importance_figure, importances, parallel, together
from autorank.reporting.tables import THIRD, count, duration, settings
from autorank.spec import SearchSpec
from autorank.trials.confirmation_stats import best_gain, summarise
from autorank.trials.front import costs, hypervolume
from autorank.trials.record import best
from autorank.trials.snapshot import Snapshot

Figures = dict[str, Figure]
STATES = {"complete": "complete", "pruned": "stopped", "failed": "failed", "running": "unfinished"}
NOTHING = "No trial has been evaluated yet."
CONFIRMED = "fresh seeds"
FRONT = """
Every evaluation of every trial is a point; a front is what no other point beats. Adapter parameters count what an
exported adapter stores, without the classification head. Scores are those by which points were selected, and so
optimistic."""
GROWTH = """
Hypervolume: the share of the box from 0 to {} parameters and from score {:g} to 1 that a front dominates, after
each trial that ended."""
CURVES = "A line a trial; click a name of the legend to hide its lines, twice to see them alone."
PARALLEL = """
A line a trial, at its best score, which is its colour too. Drag along an axis to keep what lies in that part, click
there to let all lines back; drag an axis's name to move it."""
IMPORTANCE = """
PED-ANOVA: how differently a setting is spread among the trials near the method's own front than among all of
its trials. Stopped trials stand where they were expected to end."""
TRIALS = "Parameters and score are those of a trial's best evaluation. Click a column's name to sort by it."
PICKER = """
<div id="picker">
<p><label for="most">The best with at most</label> <input id="most" type="text" inputmode="numeric" autocomplete="off">
parameters</p>
<input id="slider" type="range" min="0" max="1000" step="1" aria-label="At most so many parameters"
title="Arrow keys go from point to point">
<div id="chosen" aria-live="polite"><dl id="chosen-facts"></dl><dl id="chosen-settings"></dl></div>
<p class="command"><code id="chosen-command"></code> <button type="button" id="copy">Copy</button></p>
</div>
"""


def summary(snapshot: Snapshot, reference: tuple[float, float]) -> str:
    states = Counter(STATES[trial.state] for trial in snapshot.trials)
    facts = {"trials": str(len(snapshot.trials))}
    facts |= {name: str(states[name]) for name in ("stopped", "failed", "unfinished") if states[name]}
    if snapshot.points:
        knee = next(point for point in snapshot.points if point.knee)
        facts["on the front"] = str(len(snapshot.points))
        facts["best score"] = f"{max(p.score for p in snapshot.points):.4f}"
        facts["knee"] = f"{knee.score:.4f} with {count(knee.adapter_params)}"
        facts["hypervolume"] = f"{hypervolume(snapshot.points, reference):.4f}"
    if snapshot.control:
        facts["plain LoRA's hypervolume"] = f"{hypervolume(snapshot.control, reference):.4f}"
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl id="summary">{items}</dl>'


def _section(name: str, title: str, note: str, content: str) -> str:
    """`note` is HTML."""
    head = f'<h2 id="{name}-title">{title}</h2>' + (f'<p class="note">{note}</p>' if note else "")
    return f'<section id="{name}" aria-labelledby="{name}-title">{head}{content}</section>\n'


def front(snapshot: Snapshot, reference: tuple[float, float], shown: Figures) -> str:
    title = "Parameters against score"
    if not any(trial.evaluations for trial in snapshot.trials):
        return _section("front", title, "", f"<p>{NOTHING}</p>")
    shown["front"] = figures.front(snapshot, reference)
    note = FRONT + (" Diamonds are points trained again with fresh seeds, mean ± sd." if snapshot.confirmed else "")
    content = plot("front", "Adapter parameters against score: evaluations, the front, and plain LoRA's front")
    buttons = "".join(map(_axis_button, ("log", "linear")))
    content = f'<div class="buttons" id="front-axis" role="group" aria-label="Parameters">{buttons}</div>{content}'
    if not snapshot.points:
        why = "no evaluation keeps within the limits, or none but the control's has a finite score"
        return _section("front", title, note, f"{content}<p>There is no front yet: {why}.</p>")
    return _section("front", title, note, f"{content}{PICKER}{_front_table(snapshot)}")


def _axis_button(kind: str) -> str:
    pressed = "true" if kind == "log" else "false"
    return f'<button type="button" id="axis-{kind}" data-axis="{kind}" aria-pressed="{pressed}">{kind}</button>'


def _front_table(snapshot: Snapshot) -> str:
    confirmed = summarise(snapshot.points, snapshot)
    columns = ["parameters>", "score>"]
    columns += [CONFIRMED] if confirmed else []
    columns += [f"{THIRD[snapshot.third][0]}>"] if snapshot.third else []
    columns += ["gain>"] if snapshot.control else []
    rows = []
    for p in snapshot.points:
        row: list[Any] = [(f"{p.adapter_params:,}", p.adapter_params), (f"{p.score:.4f}", p.score)]
        found = confirmed.get((p.trial, p.step))
        if confirmed:
            row.append(("", "") if found is None else (str(found), found.mean))
        if snapshot.third:
            row.append((figures.third_text(snapshot.third, p)[1], costs(p, snapshot.third)[2]))
        if snapshot.control:
            above = best_gain(p, snapshot, found)
            row.append(("", "") if above is None else (f"{above:+.4f}", above))
        rows.append([*row, p.trial, p.step, p.method, "knee" if p.knee else "", settings(p.config)])
    columns += ["trial>", "step>", "method", "", "settings"]
    points = table("front-table", "The front", columns, rows)
    return f"<details><summary>The front as a table</summary>{points}</details>"


def growth(snapshot: Snapshot, spec: SearchSpec, reference: tuple[float, float], shown: Figures) -> str:
    grown = figures.growth(snapshot, reference, spec.objectives)
    if not grown:
        return _section("growth", "How the front grew", "", "<p>No trial has ended yet.</p>")
    shown |= grown
    note = GROWTH.format(count(reference[0]), reference[1])
    plots = plot("growth-time", "Hypervolume over time") + plot("growth-steps", "Hypervolume over training steps")
    return _section("growth", "How the front grew", note, f'<div class="pair">{plots}</div>')


def curves(snapshot: Snapshot, shown: Figures) -> str:
    figure = figures.curves(snapshot)
    if figure is None:
        return _section("curves", "Learning curves", "", f"<p>{NOTHING}</p>")
    shown["curves"] = figure
    return _section("curves", "Learning curves", CURVES, plot("curves", "Score by optimizer step, a line a trial"))


def rank_map_section(snapshot: Snapshot, shown: Figures) -> str:
    title = "Which layer has which rank"
    maps = rank_maps.rank_maps([*snapshot.points, *snapshot.control], snapshot.trials)
    if not maps:
        return _section("ranks", title, "", "<p>No point of the front has low-rank updates.</p>")
    knee = next((f"{p.trial}-{p.step}" for p in snapshot.points if p.knee), "")
    first = knee if knee in maps else next(iter(maps))
    options = {key: maps[key][0] for key in (first, *(key for key in maps if key != first))}
    shown |= {f"ranks-{key}": figure for key, (_, figure) in maps.items()}
    menu = choice("ranks-point", "Point", options, {"ranks": "ranks-"})
    place = plot("ranks", "Rank of each layer and kind of weight", f"ranks-{first}")
    without = sorted({p.method for p in snapshot.points if f"{p.trial}-{p.step}" not in maps})
    note = f"Points of {escape(', '.join(without))} have no low-rank updates." if without else ""
    return _section("ranks", title, note, f'{menu}<div class="scroll">{place}</div>')


def what_settings_did(snapshot: Snapshot, spec: SearchSpec, shown: Figures) -> str:
    title = "What the settings did"
    options = {}
    several = len({trial.method for trial in snapshot.trials if trial.evaluations}) > 1
    if several and (lines := together(spec.entries, snapshot.trials)) is not None:
        options["all"] = "all methods"
        shown["parallel-all"] = lines
        shown["importance-all"] = {"note": "Importance is that of one method's settings: choose a method."}
    for index, entry in enumerate(spec.entries):
        own = [trial for trial in snapshot.trials if trial.method == entry.method]
        if (lines := parallel(entry, own)) is None:
            continue
        options[str(index)] = entry.method + (" (control)" if entry is spec.control else "")
        shown[f"parallel-{index}"] = lines
        found = importances(entry, own)
        if isinstance(found, str):
            shown[f"importance-{index}"] = {"note": f"Importance is not shown. {found}"}
        else:
            shown[f"importance-{index}"] = importance_figure(found)
    if not options:
        return _section("settings", title, "", "<p>No trial has a score yet.</p>")
    first = next(iter(options))
    content = choice("settings-method", "Method", options, {"parallel": "parallel-", "importance": "importance-"})
    lines_of = plot("parallel", "Settings, parameters and score of each trial", f"parallel-{first}")
    content += f'<h3>Trials</h3><p class="note">{PARALLEL}</p><div class="scroll">{lines_of}</div>'
    content += f'<h3>Importance for reaching the front</h3><p class="note">{IMPORTANCE}</p>'
    content += plot("importance", "Importance of each setting for reaching the front", f"importance-{first}")
    return _section("settings", title, "", content)


def trials(snapshot: Snapshot) -> str:
    columns = ["trial>", "method", "state", "parameters>", "score>", "steps>", "time>", "settings", "reason"]
    rows: list[Sequence[Any]] = []
    for trial in snapshot.trials:
        top = best(trial.evaluations)
        rows.append([
            trial.number, trial.method + (" (control)" if trial.control else ""), STATES[trial.state],
            (f"{top.adapter_params:,}", top.adapter_params) if top else ("", ""),
            (f"{top.score:.4f}", top.score) if top else ("", ""), trial.step,
            (duration(trial.seconds), trial.seconds), settings(trial.config), trial.reason or "",
        ])  # fmt: skip
    return _section("trials", "Trials", TRIALS, table("trials-table", "All trials", columns, rows))
