"""What `--dry-run` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autorank import tasks
from autorank.display.formatting import title
from autorank.errors import counted
from autorank.reporting.tables import duration, plain_table
from autorank.searching.budget import Budget
from autorank.searching.cost_estimate import estimate
from autorank.searching.create import check_same
from autorank.searching.ray import resources
from autorank.searching.sampling import catalogue
from autorank.searching.space.param_bounds import ParamBounds
from autorank.spec import MethodSpec, SearchSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.record import ended_trials
from autorank.trials.statistics.forecast import forecast


def dry_run(spec: SearchSpec, budget: Budget, folder: Path | None = None) -> RenderableType:
    """Return the output of `--dry-run`: spaces, exact range of adapter parameters, resources, estimated time.

    No cluster is joined: resources and time are always those of this machine.

    Args:
        spec: The search.
        budget: Its budget.
        folder: Its directory; a search that exists already is forecast from its journal.

    Returns:
        What rich prints.
    """
    resources_per_trial = (Budget() if budget.on_cluster else budget).share(resources.this_machine())
    journal = None if folder is None or not (folder / JOURNAL).exists() else Journal.open(folder)
    if journal is not None:
        check_same(journal, spec)
    ended = 0 if journal is None else len(ended_trials(journal.trials()))
    total, confirm = budget.totals({} if journal is None else journal.options, ended)
    trials, noun = max(0, total - ended), "further trial" if ended else "trial"
    bounds = ParamBounds(spec.task, spec.model)
    cost = estimate(spec, trials, resources_per_trial, bounds)
    rows: list[RenderableType] = [title(spec, ", dry run")]
    for entry in spec.entries:
        role = "  the baseline: plain LoRA, tuned in the same way" if entry is spec.baseline else ""
        rows += [Text.assemble("\n", (entry.method, "bold"), role), _space_table(entry)]
    low, high = cost.params
    if cost.labels:
        rows.append(Text(f"\n{cost.labels}"))
    origin = " (of this machine, not of the cluster)" if budget.on_cluster else ""
    rows.append(
        Text(f"\nadapter parameters  {low:,} to {high:,}\n"
             f"resources           {resources_per_trial}{origin}\n"
             f"trial               {cost.steps:,} steps, about {duration(cost.seconds_per_trial)}\n"
             f"largest adapter     {1e3 * cost.seconds_per_step:.0f} ms per step, "
             f"{cost.seconds_per_evaluation:.1f} s per evaluation\n"
             + counted(trials, noun).ljust(20) + f"at most about {duration(cost.seconds)}"
             + (", plus Ray's start" if spec.halving is None else ", plus Ray's start; most are stopped early")),
    )  # fmt: skip
    if journal is None and spec.warm_start:
        searches = ", ".join(dict.fromkeys(trial.search for trial in spec.warm_start))
        first = sum(trial.first for trial in spec.warm_start)
        rows.append(Text(f"warm start          {first} settings first, {len(spec.warm_start)} trials for the sampler, "
                         f"of {searches}"))  # fmt: skip
    elif journal is None and spec.catalogue:
        data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
        if first_trials := catalogue.first_trials(spec, data, bounds):
            rows.append(Text(f"first settings      {catalogue.sources(first_trials)} (off: --no-catalogue)"))
    if journal is not None:
        expected = forecast(journal.snapshot(), trials)
        rows += [] if expected is None else [Text(f"hypervolume         {expected.hypervolume:.4f} now, {expected}")]
    if confirm:
        fronts = "both fronts" if spec.baseline else "the front"
        rows.append(Text(f"confirmation        {confirm} more runs for each adapter with points on {fronts}"))
    return Group(*rows)


def _space_table(entry: MethodSpec) -> Table:
    table = plain_table()
    for column in ("setting", "values"):
        table.add_column(column)
    for name, values in entry.space.items():
        table.add_row(name, _range(values))
    for name, value in entry.settings.items():
        table.add_row(Text(name, style="dim"), Text(str(value), style="dim"))
    return table


def _range(entry: Mapping[str, Any]) -> str:
    if "choices" in entry:
        return ", ".join(map(str, entry["choices"]))
    scale = (["log"] if entry.get("log") else []) + ([f"step {entry['step']}"] if "step" in entry else [])
    return f"{entry['low']} to {entry['high']}" + (f" ({', '.join(scale)})" if scale else "")
