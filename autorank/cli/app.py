"""The command line: the root command, its global options, and how errors are reported."""

from __future__ import annotations

import errno
import io
import logging
import sys
import traceback
from typing import Annotated

import typer

import autorank
from autorank.cli import (
    cluster,
    doctor,
    export,
    listings,
    recipes,
    report,
    results,
    search,
    shrink,
    tokenization_log,
    train,
)
from autorank.cli.help import CommandLine
from autorank.errors import DISK_FULL, AutorankError, require_posix
from autorank.interruption import EXIT_CODE, as_ctrl_c, exit_now, leave_closed_terminal
from autorank.redaction import hide

app = CommandLine(no_args_is_help=True, pretty_exceptions_enable=False)

OTHER_DIRECTORY = "Choose another directory with --runs or --to."
REMEDIES = {
    **dict.fromkeys(DISK_FULL, "Free some disk space, then run the same command again."),
    errno.EBUSY: "Another program uses it; try again later.",
    errno.EACCES: OTHER_DIRECTORY,
    errno.EPERM: OTHER_DIRECTORY,
    errno.EROFS: OTHER_DIRECTORY,
    errno.ENOTDIR: OTHER_DIRECTORY,
    errno.EEXIST: OTHER_DIRECTORY,
    errno.EISDIR: OTHER_DIRECTORY,
    errno.ENAMETOOLONG: "Choose a shorter --name.",
}

SEARCH_PACKAGES = {
    "datasets", "matplotlib", "mlflow", "moocore", "optuna", "plotly", "pyarrow", "ray", "rouge_score", "sacrebleu",
    "sentencepiece", "upath",
}  # fmt: skip


def _print_version(requested: bool) -> None:
    if requested:
        print(f"autorank {autorank.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Search LoRA rank-allocation methods for the smallest adapter that scores well on a task.

    Example: autorank doctor; autorank search --method lora-drop --task demo --trials 8
    """


for command in (
    search.search, search.resume, train.train, shrink.shrink, results.front, results.ranks, export.export,
    results.sync, results.ui,
    report.report, report.compare, doctor.doctor, listings.methods, listings.tasks, listings.spaces,
):  # fmt: skip
    app.command()(command)
app.command(context_settings={"allow_interspersed_args": False})(cluster.submit)
app.add_typer(results.specs, name="spec")
app.add_typer(recipes.papers, name="papers")


def main() -> None:
    """Run the command line.

    User errors and missing packages are reported on stderr with exit code 2; bugs keep their traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # characters that the console's encoding lacks; stderr escapes them
    tokenization_log.show()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if the home directory cannot be written
    try:
        require_posix()
        with as_ctrl_c():
            app()
    except SystemExit as ending:
        if ending.code == EXIT_CODE:
            exit_now()
        raise
    except (AutorankError, OSError) as error:
        if getattr(error, "errno", None) == errno.EIO and leave_closed_terminal():
            exit_now()
        is_user_error = isinstance(error, AutorankError) or error.errno in REMEDIES
        if "--debug" in sys.argv or not is_user_error:
            raise
        print(hide(f"autorank: {error if isinstance(error, AutorankError) else _explain(error)}"), file=sys.stderr)
        if getattr(error, "skip_exit_handlers", False):
            exit_now(2)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if "--debug" in sys.argv or package not in SEARCH_PACKAGES:
            raise
        print(
            f"autorank: This command needs the package {package!r}, which is not installed. Run "
            "`pip install 'autorank-lora[search]'` (from a clone: '.[search]').",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:  # after app(), since Typer installs its own hook
        sys.excepthook = lambda *error: sys.stderr.write(hide("".join(traceback.format_exception(*error))))


def _explain(error: OSError) -> str:
    """The message of an operating-system error with the file and a remedy."""
    file = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{file}. {REMEDIES[error.errno or 0]}"


if __name__ == "__main__":
    main()
