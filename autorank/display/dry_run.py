"""What `--dry-run` shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autorank.display.formatting import title
from autorank.reporting.tables import duration
from autorank.searching.budget import TRIALS, Budget
from autorank.searching.cost_estimate import estimate
from autorank.searching.ray import resources
from autorank.searching.space.param_bounds import Sizes
from autorank.spec import MethodSpec, SearchSpec


def dry_run(spec: SearchSpec, budget: Budget) -> RenderableType:
    """What `--dry-run` prints: the spaces, their exact parameter range, the resources, an estimate of the time.

    A cluster is not joined for it: resources and time are then those of this machine.
    """
    away = budget.address is not None or "RAY_ADDRESS" in os.environ
    each = (Budget() if away else budget).share(resources.local())
    trials = budget.trials or TRIALS
    cost = estimate(spec, trials, each, Sizes(spec.task, spec.model))
    rows: list[RenderableType] = [title(spec, ", nothing is run")]
    for entry in spec.entries:
        role = "  the control: plain LoRA, tuned alike" if entry is spec.control else ""
        rows += [Text.assemble("\n", (entry.method, "bold"), role), _space_table(entry)]
    low, high = cost.params
    rows.append(
        Text(f"\nadapter parameters  {low:,} to {high:,}\n"
             f"resources           {each}{' (this machine; the cluster is not asked)' if away else ''}\n"
             f"a trial             {cost.steps:,} steps, about {duration(cost.seconds_per_trial)}\n"
             f"at the largest      {1e3 * cost.seconds_per_step:.0f} ms a step, "
             f"{cost.seconds_per_evaluation:.1f} s an evaluation\n"
             + f"{trials} trials".ljust(20) + f"about {duration(cost.seconds)} at the most"
             + (", and Ray's start" if spec.halving is None else ", and Ray's start; most are stopped early")),
    )  # fmt: skip
    if budget.confirm:
        fronts = "both fronts" if spec.control else "the front"
        rows.append(Text(f"confirmation        {budget.confirm} more runs for each point of {fronts}"))
    return Group(*rows)


def _space_table(entry: MethodSpec) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("setting", "values"):
        table.add_column(column)
    for name, each in entry.space.items():
        table.add_row(name, _range(each))
    for name, value in entry.settings.items():
        table.add_row(Text(name, style="dim"), Text(str(value), style="dim"))
    return table


def _range(entry: Mapping[str, Any]) -> str:
    if "choices" in entry:
        return ", ".join(map(str, entry["choices"]))
    how = (["log"] if entry.get("log") else []) + ([f"step {entry['step']}"] if "step" in entry else [])
    return f"{entry['low']} to {entry['high']}" + (f" ({', '.join(how)})" if how else "")
