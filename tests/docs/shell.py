"""Runs a page's blocks as a reader would type them, in order and in one directory, but with short trainings.

`autorank` and `python` run in this process. What is changed:

- searches and trainings get the options in `SHORT` appended; so do `autorank.search` and `autorank.train`;
- a search's trials run one after another in this process rather than in Ray's (`fit`): the first search of the README
  runs in Ray in tests/cli/test_first_search.py, all else about Ray is in tests/searching and tests/faults;
- searches are sent to MLflow only on pages that read it (`READ_MLFLOW`); README.md and docs/tracking.md are among them;
- what `NOT_RUN` lists is only parsed: each option must be one that the command has, of a value that it takes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from tests.docs.blocks import Block

TRAINING: dict[str, object] = {
    "steps": 48,
    "eval_every": 24,
    "batch_size": 8,
    "max_train_examples": 64,
    "max_eval_examples": 16,
}
SHORT: dict[str, dict[str, object]] = {
    "search": TRAINING | {"concurrency": 1},  # and two trials a method
    "train": TRAINING,
    "resume": {"trials": "+1"},
    "search --recipe": {"scale": 0.0001, "seeds": 1},
}

READ_MLFLOW = ("--register", "autorank sync", "import mlflow")  # parts of the blocks of pages that read MLflow

# Part of an autorank command -> why it is only parsed.
NOT_RUN = {
    "--address": "needs a Ray cluster; tests/searching/ray/cluster/test_connection.py has one",
    "--storage": "needs object storage; tests/searching/ray/test_shared_storage_check.py has a stand-in",
    "--workers-per-trial": "starts several processes a trial in Ray; tests/searching/ray/actors/test_multi_worker.py",
    "--lanes": "starts several processes in Ray; tests/searching/test_packed_search.py",
    "--gpus-per-trial": "needs a GPU",
    "--push-to-hub": "would write to the Hub; tests/export/cards/test_model_card.py and its neighbors have a stand-in",
    "submit": "needs a Ray cluster; tests/searching/ray/cluster/test_jobs_real.py has one",
    "ui": "serves until Ctrl-C; tests/tracking/test_mlflow_server.py",
}
# First words of other programs' commands -> why they are not run.
FOREIGN = {
    "pip install": "would want a network; .ci/run installs from nothing",
    "uv pip install": "goes with pip install",
    "python -m venv": "goes with pip install",
    ". .venv/bin/activate": "goes with pip install",
    "make": "runs the tools that test and check",
    "pytest": "is what runs this",
    "ray": "needs machines to start a cluster on; tests/examples/test_cluster.py reads the files",
    "sbatch": "needs Slurm; tests/examples/test_slurm.py runs the script with stand-ins",
    "kubectl": "needs Kubernetes; tests/examples/test_cluster.py reads the file",
    "optuna-dashboard": "serves until Ctrl-C; tests/trials/journal/test_optuna_dashboard.py asks it without a server",
    "export": "names servers and secrets of the user's own",
}


def run_page(name: str, blocks: list[Block], folder: Path, log: Path) -> None:
    """Run the blocks of page `name` in `folder`; what is printed goes to `log`. Raises what a block raises."""
    with (
        log.open("w") as out, contextlib.chdir(folder), contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):  # fmt: skip
        prepare()
        if not any(part in block.content for block in blocks for part in READ_MLFLOW):
            send_nothing_to_mlflow()
        python: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks:
            try:
                run_block(block, python)
            except BaseException as error:
                traceback.print_exc()
                raise AssertionError(f"{name}, block of line {block.line}: {error}") from error


def run_block(block: Block, python: dict[str, Any]) -> None:
    """Run one block. A block with a title is a file, written for the blocks after it."""
    if block.title is not None:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.content, encoding="utf-8")
    elif block.language == "sh":
        for line in block.content.replace("\\\n", " ").splitlines():
            for command in split(line):
                print("$", *command, flush=True)
                run_command(command)
    elif block.language == "python":
        exec(compile(block.content, f"line {block.line}", "exec"), python)
    elif block.language == "json":
        json.loads(block.content)
    elif block.language != "text":
        raise AssertionError(f"nothing reads this {block.language or 'unnamed'} block: give it title=, or make it text")


def split(line: str) -> list[list[str]]:
    """The commands of a line, as words; comments are left out, and `x=$(command)` is its command."""
    line = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line.strip())
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in (";", "&&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def run_command(words: list[str]) -> None:
    """Run a command of autorank or Python; any other must be listed in FOREIGN."""
    while re.match(r"[A-Z_]+=", words[0]):  # its environment
        words = words[1:]
    line = " ".join(words)
    if any(line == start or line.startswith(f"{start} ") for start in FOREIGN):
        return
    if ">" in words:
        position = words.index(">")
        with Path(words[position + 1]).open("w") as file, contextlib.redirect_stdout(file):
            return run_command(words[:position] + words[position + 2 :])
    program, *arguments = words
    if program == "python":
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    elif program == "cd":
        raise AssertionError("pages stay in one directory")
    elif program != "autorank":
        raise AssertionError(f"{line!r} is neither run nor in FOREIGN")
    elif set(NOT_RUN) & {word.partition("=")[0] for word in arguments}:
        parse(arguments)
    else:
        autorank(arguments)


def autorank(words: Sequence[str]) -> None:
    """Run a command with the options that shorten it."""
    from autorank.cli import app

    kind = "search --recipe" if words and words[0] == "search" and "--recipe" in words else next(iter(words), "")
    code = app.app([*words, *shortening_arguments(kind, words)], standalone_mode=False)
    if code not in (None, 0) and kind != "doctor":  # problems of this machine are allowed
        raise AssertionError(f"autorank {' '.join(words)}: exit code {code}")


def shortening_arguments(kind: str, words: Sequence[str]) -> list[str]:
    """The arguments that shorten a command of this kind."""
    methods = words[words.index("--method") + 1].split(",") if "--method" in words else [""]
    return [f"--{name.replace('_', '-')}={value}" for name, value in shortening_options(kind, methods).items()]


def shortening_options(kind: str, methods: Sequence[str]) -> dict[str, object]:
    """The options that shorten a command of this kind; a search has two trials per method: its first settings and its
    smallest adapter."""
    options = SHORT.get(kind, {})
    return {**options, "trials": 2 * len(methods)} if kind == "search" else options


def parse(words: Sequence[str]) -> None:
    """Parse a command up to its options."""
    from autorank.cli import app, cluster

    root: Any = typer.main.get_command(app.app)
    command, arguments = root, list(words)
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command = command.commands[arguments.pop(0)]
    context = command.make_context(words[0], arguments)
    if words[0] == "submit":
        cluster._parse(root, context.params["command"])


def prepare() -> None:
    """Replace Ray and shorten trainings in this process."""
    import ray

    from autorank import api
    from autorank.recipes import run as recipes
    from autorank.recipes import scale
    from autorank.searching import tune_session
    from autorank.searching.ray.cluster import connection

    vars(connection)["running"] = lambda address, log: contextlib.nullcontext()
    vars(ray)["nodes"] = lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}]
    vars(tune_session)["fit"] = vars(recipes)["fit"] = fit
    vars(scale).update(EXAMPLES=16, STEPS=48)
    vars(api).update({name: shorten(name, getattr(api, name)) for name in ("search", "train")})


def send_nothing_to_mlflow() -> None:
    """Let searches in this process send nothing to MLflow."""
    from autorank.tracking.mlflow_sync import MLflowSync

    MLflowSync.push = lambda *_, **__: None  # type: ignore[method-assign]


def shorten(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `autorank.search` or `autorank.train`: the shortening options take precedence over the caller's."""

    def shortened_call(*, method: str | list[str] = "", **options: Any) -> Any:
        methods = method.split(",") if isinstance(method, str) else method
        return function(method=method, **options | shortening_options(kind, methods))

    return shortened_call


def fit(searcher: Any, callback: Any, trainable: Callable[[dict[str, Any]], Any], resources: Any, folder: Path) -> None:
    """Replace `autorank.searching.ray.tune_run.fit`: run trials one after another, in this process."""
    from ray.tune.trainable import trainable as base

    vars(base)["DEFAULT_STORAGE_PATH"] = str(folder / ".tune")
    actor = None
    for name in map(str, itertools.count()):
        config = searcher.suggest(name)
        if not isinstance(config, dict):
            break
        if actor is None:
            actor = trainable(config)
        else:
            actor.reset_config(config)
        result = actor.step()
        while not result["done"]:
            searcher.on_trial_result(name, result)
            if searcher.should_stop(name):
                break
            result = actor.step()
        searcher.on_trial_complete(name, result)
        if "failed" in result:
            raise AssertionError(f"trial {config['number']}: {result['failed']}\n{result['traceback']}")
    if actor is not None:
        actor.cleanup()
    if searcher.problem is not None:
        raise searcher.problem
