"""What the command line says of itself: help with examples, the version, what the shell is offered."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import autorank
from autorank.cli import app

HEAVY = ["torch", "ray", "mlflow", "datasets", "transformers", "typer.rich_utils"]
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))\n"
EXAMPLE = "Example: "


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Each command and group with its words."""
    yield " ".join(path), command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, *path, name)


ROOT = typer.main.get_command(app.app)
ALL = dict(commands(ROOT, "autorank"))


@pytest.mark.parametrize("words", ALL)
def test_each_help_has_an_example_that_the_command_line_takes(words: str, tmp_path: Path) -> None:
    command = ALL[words]
    lines = [line.strip() for line in (command.help or "").splitlines()]
    examples = [line.removeprefix(EXAMPLE) for line in lines if line.startswith(EXAMPLE)]
    assert examples, f"{words} --help has no example"
    for example in examples[0].split("; "):
        told = example.partition(" > ")[0].split()
        assert told[0] == "autorank"
        at: Any = ROOT
        rest = [word.strip("'") for word in told[1:]]
        while rest and rest[0] in getattr(at, "commands", {}):
            at, rest = at.commands[rest[0]], rest[1:]
        known = {option for each in at.params for option in (*each.opts, *each.secondary_opts)}
        if "--" not in rest:
            assert {word for word in rest if word.startswith("--")} <= known, example
            assert at.params or not rest, example


def test_every_option_and_argument_is_explained() -> None:
    hidden = {"help", "show_completion", "install_completion"}
    bare = [f"{words} {each.name}" for words, command in ALL.items() for each in command.params
            if each.name not in hidden and not getattr(each, "help", None)]  # fmt: skip
    assert not bare


def test_help_and_version_load_nothing_heavy() -> None:
    for word in ("--help", "--version", "search --help"):
        code = f"{BLOCKED}import autorank.cli.app as c; sys.argv = ['autorank', *{word.split()!r}]; c.main()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert autorank.__version__ in done.stdout if word == "--version" else "Example:" in done.stdout


@pytest.mark.parametrize(
    ("words", "package"),
    [("search --method lora --task demo --dry-run", "optuna"), ("front any", "optuna"), ("tasks", "nothing")],
)
def test_a_package_that_is_not_installed_is_named(words: str, package: str, tmp_path: Path) -> None:
    """As where the extra `search` is missing; another module that is missing is a bug and keeps its traceback."""
    (tmp_path / "runs" / "any").mkdir(parents=True)
    (tmp_path / "runs" / "any" / "journal.log").touch()
    absent = {package, "ray", "mlflow"} if package == "optuna" else {"autorank.tasks"}
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import autorank.cli.app as c; "
    code += f"sys.argv = ['autorank', *{words.split()!r}]; c.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    if package == "nothing":
        assert done.returncode == 1 and "Traceback" in done.stderr
    else:
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("autorank: This command needs the package"), done.stderr
        assert "autorank-lora[search]" in done.stderr


def test_packages_of_the_extra_are_known() -> None:
    """Each package of the extras `data` and `search` by the name under which it is imported."""
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    listed = {re.split(r"[\[><=]", line)[0] for line in (*extras["data"], *extras["search"])} - {"autorank-lora"}
    imported = {"rouge-score": "rouge_score", "universal-pathlib": "upath"}
    assert {imported.get(package, package) for package in listed} == app.SEARCH_PACKAGES


def offered(words: str, cwd: Path) -> list[str]:
    """What bash is offered for the last word, by a command line that cannot import torch, Ray and the like."""
    env = os.environ | {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_AUTORANK_COMPLETE": "complete_bash"}
    code = f"{BLOCKED}import autorank.cli.app as c; sys.argv = ['autorank']; c.app(prog_name='autorank')"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_shell_completion_candidates(tmp_path: Path) -> None:
    for file in ("runs/one/journal.log", "runs/onto/journal.log", "other/three/journal.log", "runs/mine/recipe.jsonl"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    wanted = {
        "autorank doc": ["doctor"],
        "autorank search --method lora": ["lora", "lora-drop", "lora-squeeze"],
        "autorank search --method vera,lora,lo": ["vera,lora,lora-drop", "vera,lora,lora-squeeze"],
        "autorank train --task squad": ["squad_v1", "squad_v2"],
        "autorank search --sampler ": ["tpe", "nsga2", "gp", "random"],
        "autorank search --recipe increlora-table": [f"increlora-table{i}" for i in (1, 2, 3)],
        "autorank spaces ver": ["vera"],
        "autorank front on": ["one", "onto"],
        "autorank compare one ont": ["onto"],
        "autorank front --runs other ": ["three"],
        "autorank papers compare mi": ["mine"],
    }
    assert {words: offered(words, tmp_path) for words in wanted} == wanted


def test_the_shell_gets_its_script() -> None:
    env = os.environ | {"_AUTORANK_COMPLETE": "source_bash"}
    done = subprocess.run(
        [sys.executable, "-c", "import autorank.cli.app as c; c.app(prog_name='autorank')"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert re.search(r"complete .*autorank", done.stdout), done.stdout


def test_the_wheel_has_what_type_checkers_look_for(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(Path(__file__).parents[2])).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
    assert {"autorank/py.typed", "trainables/py.typed", "autorank/doctor/__init__.py"} <= names
