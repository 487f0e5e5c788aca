"""The command that sends other commands to a Ray cluster; `autorank.cli.app` puts it on the command line."""

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
from autorank.redaction import held, hide, values

COMMANDS = ("search", "resume", "train")
RUNS_THERE = '"$HOME"/runs'  # for the shell of the head node
USAGE = "write: autorank submit [--address http://HEAD:8265] -- search --method ..."


def submit(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND ...", help=f"{', '.join(COMMANDS)}, with its options.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or this machine's."),
    ] = None,
    working_dir: Annotated[
        Path | None, typer.Option(help="The job starts in a copy of this folder, without what .gitignore names.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job; say how to.")] = False,
) -> None:
    """Run search, resume or train as a job of a Ray cluster, and follow it.

    The exit code is the command's own. The cluster needs autorank's dependencies; autorank itself comes along.
    Ctrl-C stops following, not the job.

    Files: an absolute path is one of the cluster; data, models and runs belong on storage that all its nodes share.
    A relative path is one in --working-dir, fit for a first try: its copy goes with the cluster's session, so a search
    of such data cannot be resumed in another. Without --runs, runs lie in ~/runs of the head node.

    [dim]Example:[/] autorank submit --address http://HEAD:8265 -- search --method lora --task mrpc --runs /shared/runs
    """
    from autorank.searching.ray import jobs

    command = command or []
    _refuse_passwords(command)
    with contextlib.chdir(working_dir) if working_dir and working_dir.is_dir() else contextlib.nullcontext():
        given, absent = _parse(ctx.find_root().command, command)
    _refuse_absent(given, working_dir)
    job = jobs.submit(jobs.resolve(address), _entrypoint(command, absent), working_dir)
    ways = f"  follow it: {job.command('logs --follow')}\n  stop it:   {job.command('stop')}"
    console = terminal()
    console.print(f"{job.id} submitted to {hide(job.address)}\n{ways}")
    if no_wait:
        return
    try:
        code = jobs.follow(job, _write)
    except KeyboardInterrupt:
        console.print(f"\nNo longer following; {job.id} runs on.\n{ways}")
        code = jobs.INTERRUPTED
    raise typer.Exit(code)


def _refuse_passwords(command: list[str]) -> None:
    """Raises AutorankError for a password in a job's command line, which the dashboard shows to all who reach it."""
    secret = values()
    for word in command:
        if held(word) or word in secret or word.partition("=")[2] in secret:
            raise AutorankError(
                f"{hide(word)} holds a password or a token, and a cluster shows its jobs' command lines. Leave it out, "
                "and set it in the environment of the cluster's nodes (MLFLOW_TRACKING_USERNAME, "
                "MLFLOW_TRACKING_PASSWORD, HF_TOKEN, ...)."
            )


def _parse(root: Any, command: list[str]) -> tuple[dict[str, Any], set[str]]:
    """The options that the submitted command gives, and the names of those that it leaves out.

    Raises:
        AutorankError: it is none of `COMMANDS`; and click's error for an option that the command does not have, which
            is so found before anything travels.
    """
    if not command:
        raise AutorankError(f"Nothing to submit; {USAGE}")
    name, *arguments = command
    if name not in COMMANDS:
        raise AutorankError(f"{name!r} is nothing to submit, only {', '.join(COMMANDS)} are; {USAGE}")
    context = root.commands[name].make_context(f"autorank submit -- {name}", arguments)
    absent = {option for option in context.params if context.get_parameter_source(option).name == "DEFAULT"}
    return {option: value for option, value in context.params.items() if option not in absent}, absent


def _refuse_absent(given: dict[str, Any], working_dir: Path | None) -> None:
    """Check that a command's files are where the job will look for them.

    An absolute path means storage of the cluster, a relative one a file in the working dir, from which the job starts;
    what is written there would go with the job. A model or a setting is a path if there is such a file here.

    Raises:
        AutorankError: names all files at fault.
    """
    from autorank.recipes.load import PACKAGE, shipped

    if working_dir is not None and not working_dir.is_dir():
        raise AutorankError(f"--working-dir {working_dir} is not a folder.")
    maybe = {f"--set {text.partition('=')[0]}": Path(text.partition("=")[2]) for text in given.get("set", ())}
    maybe |= {"--model": Path(given["model"])} if "model" in given else {}
    files = ("config", "data", "recipe", "space")
    inputs = {f"--{name}": Path(given[name]) for name in files if isinstance(given.get(name), str | Path)}
    inputs |= {option: path for option, path in maybe.items() if path.exists()}
    recipe = inputs.get("--recipe")
    if recipe and not recipe.exists() and (file := shipped().get(recipe.name)):
        inputs["--recipe"] = Path(os.path.relpath(file))
        if file.is_relative_to(PACKAGE):  # it comes along with the code; one of a checkout does not
            del inputs["--recipe"]
    outputs = {f"--{name}": Path(given[name]) for name in ("runs", "to") if name in given}
    if (uri := given.get("tracking_uri", "")).startswith("sqlite:///"):
        outputs["--tracking-uri"] = Path(uri.removeprefix("sqlite:///"))

    where = f"is not in --working-dir {working_dir}, where the job starts" if working_dir else "stays on this machine"
    lines = [f"{option} {path} {where}." for option, path in inputs.items() if not _travels(path, working_dir)]
    lines += [f"{option} {path} would be lost with the job." for option, path in outputs.items()
              if not path.is_absolute()]  # fmt: skip
    if lines:
        raise AutorankError(
            "The job would not find its files:\n" + "\n".join(f"  {line}" for line in lines)
            + "\nGive absolute paths on storage that all nodes of the cluster share"
            + (", or --working-dir DIR and the path from there." if inputs else ".")
        )  # fmt: skip


def _travels(path: Path, working_dir: Path | None) -> bool:
    """Whether the job finds the file: by its full path, or in the copy of the working dir."""
    if path.is_absolute() or working_dir is None:
        return path.is_absolute()
    root = Path(os.path.abspath(working_dir))
    there = Path(os.path.abspath(root / path))
    return there.is_relative_to(root) and there.exists()


def _entrypoint(command: list[str], absent: set[str]) -> str:
    """What the head node's shell runs. -P: the folder it starts in may hold another autorank."""
    words = shlex.join(["python", "-P", "-m", "autorank", *command])
    if "address" in absent:
        words += " --address auto"
    if "runs" in absent:
        words += f" --runs {RUNS_THERE}"
    return words


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
