"""The commands that list methods, tasks and search spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from autorank.display.console import terminal
from autorank.options import completion


def methods() -> None:
    """List the rank-allocation methods with their settings and sources.

    Example: autorank methods
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from autorank.methods import find, names

    console = terminal()
    for name in names():
        method = find(name)
        header = Text.assemble((name, "bold"), f"  {method.summary}\n    ", (method.source, "dim"))
        settings = Table.grid(padding=(0, 2, 0, 0))
        for setting, field in method.Config.model_fields.items():
            settings.add_row(f"{setting} = {field.default}", Text(field.description or "", "dim"))
        console.print(header, Padding(settings, (0, 0, 0, 4)), soft_wrap=False)


def tasks() -> None:
    """List the named tasks with their sources, metrics and defaults.

    Example: autorank tasks
    """
    from rich.table import Column, Table

    from autorank.tasks import TASKS
    from autorank.tasks.named.demo import DEMO

    table = Table("task", "kind", Column("score, other metrics", overflow="fold"), "epochs", "batch", box=None)
    sources: dict[str, list[str]] = {}
    for task in TASKS.values():
        name = task.name if task.hub or task is DEMO else f"{task.name} (needs --data)"
        table.add_row(name, task.kind.name, ", ".join(task.metrics), str(task.epochs), str(task.batch_size))
        data = task.source.partition(";")[0] + (f", {task.hub[0]}" if task.hub else "")
        model = "the model shipped with autorank" if task is DEMO else task.model
        sources.setdefault(f"{data}; {model}", []).append(task.name)
    console = terminal()
    console.print(table, soft_wrap=False)
    lines = "\n".join(f"{', '.join(names)}: {source}" for source, names in sources.items())
    console.print(f"\n{lines}", style="dim", soft_wrap=False)


def spaces(
    method: Annotated[
        str | None,
        typer.Argument(help="Print the space of this method only.", autocompletion=completion.methods),
    ] = None,
) -> None:
    """Print the search spaces as YAML.

    Example: autorank spaces lora-drop > mine.yaml
    """
    from autorank.methods import names
    from autorank.searching.space.space import builtin

    for name in [method] if method else names():
        print(builtin(name).rstrip() + ("" if method else "\n"))
