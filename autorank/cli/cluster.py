"""The command `submit`, which runs other commands as jobs of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from autorank.display.console import terminal
from autorank.errors import AutorankError
from autorank.interruption import EXIT_CODE
from autorank.options.parsing import metric_file
from autorank.redaction import has_password, hide, secret_values

COMMANDS = ("search", "resume", "train")
CLUSTER_RUNS = '"$HOME"/runs'  # expanded by the shell of the head node
USAGE = "Usage: autorank submit [--address http://HEAD:8265] -- search --method ..."


def submit(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND ...", help=f"Command with its options: {', '.join(COMMANDS)}.", show_default=False
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else this "
            "machine's.",
            metavar="URL",
        ),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory that is copied to the cluster, without files in .gitignore; the job starts in the copy."
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not follow the job; print the command that does.")
    ] = False,
) -> None:
    """Run search, resume or train as a job of a Ray cluster, and follow it.

    The exit code is that of the command. The cluster needs autorank's dependencies; autorank itself is uploaded.
    Ctrl-C stops following; the job continues.

    An absolute path is a path on the cluster: put data, models and runs on storage that all nodes share. A relative
    path is a path in --working-dir. Its copy is deleted with the cluster's session, so a search of such data cannot be
    resumed in another session. The file of --config is also read on this machine: put it into --working-dir. Without
    --runs, the runs are written to ~/runs on the head node.

    Example: autorank submit --address http://HEAD:8265 -- search --method lora --task mrpc --runs /shared/runs
    """
    from autorank.searching.ray.cluster import jobs

    command = command or []
    _refuse_passwords(command)
    with contextlib.chdir(working_dir) if working_dir and working_dir.is_dir() else contextlib.nullcontext():
        options, defaulted = _parse(ctx.find_root().command, command)
    _refuse_missing_files(options, working_dir)
    job = jobs.submit(jobs.resolve(address), _entrypoint(command, defaulted), working_dir)
    hints = f"  follow it: {job.command('logs --follow')}\n  stop it:   {job.command('stop')}"
    console = terminal()
    console.print(f"{job.id} submitted to {hide(job.address)}\n{hints}")
    if no_wait:
        return
    try:
        code = jobs.follow(job, _write)
    except KeyboardInterrupt:
        console.print(f"\nNo longer following {job.id}, which continues.\n{hints}")
        code = EXIT_CODE
    raise typer.Exit(code)


def _refuse_passwords(command: list[str]) -> None:
    """Raise AutorankError for a password in a job's command line, which everyone who opens the dashboard can read."""
    secret = secret_values()
    for word in command:
        if has_password(word) or word in secret or word.partition("=")[2] in secret:
            raise AutorankError(
                f"{hide(word)} contains a password or a token, and a cluster shows its jobs' command lines. Leave it "
                "out, and set it in the environment of the cluster's nodes (MLFLOW_TRACKING_USERNAME, "
                "MLFLOW_TRACKING_PASSWORD, HF_TOKEN, ...)."
            )


def _parse(root: Any, command: list[str]) -> tuple[dict[str, Any], set[str]]:
    """Parse the submitted command: its given options, and the names of those at their default.

    Args:
        root: autorank's root command.
        command: The words of the submitted command.

    Raises:
        AutorankError: The command is none of `COMMANDS`. Unknown options raise click's own error, before anything is
            uploaded.
    """
    if not command:
        raise AutorankError(f"The command is missing. {USAGE}")
    name, *arguments = command
    if name not in COMMANDS:
        raise AutorankError(f"{name!r} cannot be submitted. Available: {', '.join(COMMANDS)}. {USAGE}")
    context = root.commands[name].make_context(f"autorank submit -- {name}", arguments)
    defaulted = {option for option in context.params if context.get_parameter_source(option).name == "DEFAULT"}
    return {option: value for option, value in context.params.items() if option not in defaulted}, defaulted


def _refuse_missing_files(options: dict[str, Any], working_dir: Path | None) -> None:
    """Check that the job will find the command's files.

    An absolute path is on the cluster's storage; a relative path is in the working directory, in whose copy the job
    starts and where output would be lost.

    Args:
        options: The given options.
        working_dir: The directory that is copied, or None.

    Raises:
        AutorankError: Lists all files that the job would not find or would lose.
    """
    if working_dir is not None and not working_dir.is_dir():
        raise AutorankError(f"--working-dir {working_dir} is not a directory.")
    inputs = _input_files(options)
    problem = f"is not in --working-dir {working_dir}, where the job starts" if working_dir else "is not uploaded"
    lines = [f"{option} {path} {problem}." for option, path in inputs.items() if not _is_available(path, working_dir)]
    lines += [f"{option} {path} would be lost at the end of the job." for option, path in _output_files(options).items()
              if not path.is_absolute()]  # fmt: skip
    if lines:
        raise AutorankError(
            "The job would not find its files:\n" + "\n".join(f"  {line}" for line in lines)
            + "\nGive absolute paths on storage that all nodes of the cluster share"
            + (", or --working-dir DIR and the path from there." if inputs else ".")
        )  # fmt: skip


def _input_files(options: dict[str, Any]) -> dict[str, Path]:
    """The files that a command reads, by option. A model or a setting is one if it exists on this machine."""
    from autorank.recipes.load import PACKAGE, shipped
    from autorank.tasks.reading.location import is_path

    candidates = {f"--set {text.partition('=')[0]}": Path(text.partition("=")[2]) for text in options.get("set", ())}
    candidates |= {"--model": Path(options["model"])} if "model" in options else {}
    files = ("config", "data", "recipe", "space")
    inputs = {f"--{name}": Path(options[name]) for name in files if isinstance(options.get(name), str | Path)}
    if "data" in options and not is_path(options["data"]):
        del inputs["--data"]
    if (file := metric_file(options.get("metric", ""))) is not None:
        inputs["--metric"] = file
    if isinstance(spaces := options.get("space"), dict):
        inputs |= {f"--space {name}": Path(part) for name, part in spaces.items() if isinstance(part, str)}
    inputs |= {option: path for option, path in candidates.items() if path.exists()}
    recipe = inputs.get("--recipe")
    if recipe and not recipe.exists() and (file := shipped().get(recipe.name)):
        inputs["--recipe"] = Path(os.path.relpath(file))
        if file.is_relative_to(PACKAGE):  # is uploaded with the package; a recipe of a checkout is not
            del inputs["--recipe"]
    return inputs


def _output_files(options: dict[str, Any]) -> dict[str, Path]:
    """The files and directories that a command writes, by option."""
    outputs = {f"--{name}": Path(options[name]) for name in ("runs", "to") if name in options}
    if (uri := options.get("tracking_uri", "")).startswith("sqlite:///"):
        outputs["--tracking-uri"] = Path(uri.removeprefix("sqlite:///"))
    return outputs


def _is_available(path: Path, working_dir: Path | None) -> bool:
    """Whether the job finds the file: by its absolute path, or in the copy of the working directory."""
    if path.is_absolute() or working_dir is None:
        return path.is_absolute()
    root = Path(os.path.abspath(working_dir))
    file = Path(os.path.abspath(root / path))
    return file.is_relative_to(root) and file.exists()


def _entrypoint(command: list[str], defaulted: set[str]) -> str:
    """What the head node's shell runs. -P: the directory it starts in may hold another autorank."""
    words = shlex.join(["python", "-P", "-m", "autorank", *command])
    if "address" in defaulted:
        words += " --address auto"
    if "runs" in defaulted:
        words += f" --runs {CLUSTER_RUNS}"
    return words


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
