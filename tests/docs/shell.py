"""Runs a page's blocks as a reader would type them, in order and in one folder, but shortened.

`autorank` and `python` run in this process. What is changed:

- searches and trainings get the options in `SHORT` appended; so do `autorank.search` and `autorank.train`;
- a search's trials run one after another in this process rather than in Ray's (`fit`): the first search of the README
  runs in Ray in tests/cli/test_first_search.py, all else about Ray is in tests/search and tests/faults;
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
    "optuna-dashboard": "serves until Ctrl-C; tests/trials/test_dashboard.py asks it without a server",
    "export": "names servers and secrets of the user's own",
}


def run_page(name: str, given: list[Block], folder: Path, log: Path) -> None:
    """Run the blocks of page `name` in `folder`; what is printed goes to `log`. Raises what a block raises."""
    with (
        log.open("w") as out, contextlib.chdir(folder), contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):  # fmt: skip
        prepare()
        python: dict[str, Any] = {"__name__": "__main__"}
        for block in given:
            try:
                run_block(block, python)
            except BaseException as error:
                traceback.print_exc()
                raise AssertionError(f"{name}, block of line {block.line}: {error}") from error


def run_block(block: Block, python: dict[str, Any]) -> None:
    """One block. A block with a title is a file, written for the blocks after it."""
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
    """A command, of which autorank's and Python's are run; another has to be in FOREIGN."""
    while re.match(r"[A-Z_]+=", words[0]):  # its environment
        words = words[1:]
    line = " ".join(words)
    if any(line == start or line.startswith(f"{start} ") for start in FOREIGN):
        return
    if ">" in words:
        at = words.index(">")
        with Path(words[at + 1]).open("w") as file, contextlib.redirect_stdout(file):
            return run_command(words[:at] + words[at + 2 :])
    program, *rest = words
    if program == "python":
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")
    elif program == "cd":
        raise AssertionError("pages stay in one folder")
    elif program != "autorank":
        raise AssertionError(f"{line!r} is neither run nor in FOREIGN")
    elif set(NOT_RUN) & {word.partition("=")[0] for word in rest}:
        parse(rest)
    else:
        autorank(rest)


def autorank(words: Sequence[str]) -> None:
    """Run a command, shortened."""
    from autorank.cli import app

    kind = "search --recipe" if words and words[0] == "search" and "--recipe" in words else next(iter(words), "")
    code = app.app([*words, *appended(kind, words)], standalone_mode=False)
    if code not in (None, 0) and kind != "doctor":  # what it thinks of this machine is its own matter
        raise AssertionError(f"autorank {' '.join(words)}: exit code {code}")


def appended(kind: str, words: Sequence[str]) -> list[str]:
    """What shortens a command of this kind."""
    methods = words[words.index("--method") + 1].split(",") if "--method" in words else [""]
    return [f"--{name.replace('_', '-')}={value}" for name, value in changes(kind, methods).items()]


def changes(kind: str, methods: Sequence[str]) -> dict[str, object]:
    """The options that shorten; a search's trials suffice for the first and the smallest adapter of each method."""
    found = SHORT.get(kind, {})
    return {**found, "trials": 2 * len(methods)} if kind == "search" else found


def parse(words: Sequence[str]) -> None:
    """Parse a command up to its options."""
    from autorank.cli import app, cluster

    root: Any = typer.main.get_command(app.app)
    command, rest = root, list(words)
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    context = command.make_context(words[0], rest)
    if words[0] == "submit":
        cluster._parse(root, context.params["command"])


def prepare() -> None:
    """The changes to this process."""
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
    vars(api).update({name: shortened(name, getattr(api, name)) for name in ("search", "train")})


def shortened(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`autorank.search` or `autorank.train`, whatever options it is given."""

    def call(*, method: str | list[str] = "", **options: Any) -> Any:
        methods = method.split(",") if isinstance(method, str) else method
        return function(method=method, **options | changes(kind, methods))

    return call


def fit(searcher: Any, watch: Any, trainable: Callable[[dict[str, Any]], Any], each: Any, folder: Path) -> None:
    """In place of `autorank.searching.search.fit`: trials one after another, in this process."""
    from ray.tune.trainable import trainable as base

    vars(base)["DEFAULT_STORAGE_PATH"] = str(folder / ".tune")
    actor = None
    for name in map(str, itertools.count()):
        asked = searcher.suggest(name)
        if not isinstance(asked, dict):
            break
        if actor is None:
            actor = trainable(asked)
        else:
            actor.reset_config(asked)
        result = actor.step()
        while not result["done"]:
            searcher.on_trial_result(name, result)
            if searcher.should_stop(name):
                break
            result = actor.step()
        searcher.on_trial_complete(name, result)
        if "failed" in result:
            raise AssertionError(f"trial {asked['number']}: {result['failed']}\n{result['traceback']}")
    if actor is not None:
        actor.cleanup()
    if searcher.problem is not None:
        raise searcher.problem
