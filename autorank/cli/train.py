"""The command `train`."""

from __future__ import annotations

import sys

import typer

from autorank.cli import tokenization_log
from autorank.interruption import EXIT_CODE
from autorank.options.calls import TrainCall
from autorank.options.config_file import FileOptions
from autorank.options.groups import with_options


@with_options
def train(call: TrainCall, config_options: FileOptions) -> None:
    """Train once with one setting, without Ray.

    Example: autorank train --method lora --task demo --set rank=4 --to my-adapter
    """
    from autorank.runner import run_training

    if call.quiet:
        tokenization_log.silence()
    try:
        run_training(call)
    except KeyboardInterrupt as interrupt:
        print("\n".join(["autorank: interrupted.", *getattr(interrupt, "__notes__", [])]), file=sys.stderr)
        raise typer.Exit(EXIT_CODE) from None
