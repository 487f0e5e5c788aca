"""Help pages in plain text: importing typer's Rich pages takes longer than all else that `autorank --help` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDTH = {"max_content_width": 100}


class CommandLine(typer.Typer):
    """A group of commands whose help pages list the options by panel."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=_Group, rich_markup_mode=None, context_settings=WIDTH, **options)

    def command(self, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # type: ignore[override]
        """As `typer.Typer.command`, with this help page."""
        settings = WIDTH | options.pop("context_settings", {})
        return super().command(cls=_Command, context_settings=settings, **options)


class _Command(TyperCommand):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)


class _Group(TyperGroup):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command)) for name, command in commands.items() if command])


def _summary(command: Any) -> str:
    """The first paragraph of a command's help."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write arguments and options, one section for each panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            panel = "Arguments" if parameter.param_type_name == "argument" else parameter.rich_help_panel or "Options"
            panels.setdefault(panel, []).append(record)
    for panel, records in panels.items():
        with formatter.section(panel):
            formatter.write_dl(records)
