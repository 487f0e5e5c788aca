"""The command `shrink`."""

from __future__ import annotations

from typing import Annotated

import typer

from autorank.cli.results import Format
from autorank.options.config_file import FileOptions
from autorank.options.groups import with_options
from autorank.options.shrink import ShrinkCall


@with_options
def shrink(
    adapter: Annotated[str, typer.Argument(help="PEFT adapter: a directory, or a name on the Hub.", metavar="ADAPTER")],
    call: ShrinkCall,
    config_options: FileOptions,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
) -> None:
    """Cut a trained LoRA adapter to smaller sizes, score them and write one of them. Any PEFT adapter will do.

    Without data, sizes are listed with the share of energy that they keep.

    Example: autorank shrink my-adapter --task demo --max-score-drop 0.01 --to smaller
    """
    from autorank.display import shrink_display
    from autorank.display.console import terminal
    from autorank.runner import run_shrink

    result = run_shrink(adapter, call)
    if format is Format.json:
        print(shrink_display.as_json(result.sizes, result.chosen))
    elif format is Format.csv:
        print(shrink_display.as_csv(result.sizes, result.chosen), end="")
    else:
        for note in result.data_notes:
            terminal().print(note, soft_wrap=True, markup=False)
        terminal().print(shrink_display.table(result.sizes, result.chosen))
        for note in result.notes:
            terminal().print(note, soft_wrap=True, markup=False)
