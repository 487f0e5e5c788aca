"""Help with examples, the version, and shell completion."""

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
    """Yields each command and group with its full name."""
    yield " ".join(path), command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from commands(subcommand, *path, name)


ROOT = typer.main.get_command(app.app)
COMMANDS = dict(commands(ROOT, "autorank"))


@pytest.mark.parametrize("words", COMMANDS)
def test_each_help_has_a_valid_example(words: str, tmp_path: Path) -> None:
    command = COMMANDS[words]
    lines = [line.strip() for line in (command.help or "").splitlines()]
    examples = [line.removeprefix(EXAMPLE) for line in lines if line.startswith(EXAMPLE)]
    assert examples, f"{words} --help has no example"
    for example in examples[0].split("; "):
        example_words = example.partition(" > ")[0].split()
        assert example_words[0] == "autorank"
        parsed: Any = ROOT
        remaining = [word.strip("'") for word in example_words[1:]]
        while remaining and remaining[0] in getattr(parsed, "commands", {}):
            parsed, remaining = parsed.commands[remaining[0]], remaining[1:]
        options = {option for parameter in parsed.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if "--" not in remaining:
            assert {word for word in remaining if word.startswith("--")} <= options, example
            assert parsed.params or not remaining, example


def test_every_option_and_argument_is_explained() -> None:
    hidden = {"help", "show_completion", "install_completion"}
    unexplained = [f"{words} {parameter.name}" for words, command in COMMANDS.items() for parameter in command.params
            if parameter.name not in hidden and not getattr(parameter, "help", None)]  # fmt: skip
    assert not unexplained


def test_help_and_version_load_nothing_heavy() -> None:
    for word in ("--help", "--version", "search --help"):
        code = f"{BLOCKED}import autorank.cli.app as c; sys.argv = ['autorank', *{word.split()!r}]; c.main()"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert autorank.__version__ in result.stdout if word == "--version" else "Example:" in result.stdout


@pytest.mark.parametrize(
    ("words", "package"),
    [("search --method lora --task demo --dry-run", "optuna"), ("front any", "optuna"), ("tasks", "nothing")],
)
def test_a_package_that_is_not_installed_is_named(words: str, package: str, tmp_path: Path) -> None:
    """Packages of the extra `search` are named; any other missing module is a bug and keeps its traceback."""
    (tmp_path / "runs" / "any").mkdir(parents=True)
    (tmp_path / "runs" / "any" / "journal.log").touch()
    missing = {package, "ray", "mlflow"} if package == "optuna" else {"autorank.tasks"}
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import autorank.cli.app as c; "
    code += f"sys.argv = ['autorank', *{words.split()!r}]; c.main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    if package == "nothing":
        assert result.returncode == 1 and "Traceback" in result.stderr
    else:
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("autorank: This command needs the package"), result.stderr
        assert "autorank-lora[search]" in result.stderr


def test_search_packages_equal_the_extras() -> None:
    """Compares the import names of the packages in the extras `data` and `search`."""
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    listed = {re.split(r"[\[><=]", line)[0] for line in (*extras["data"], *extras["search"])} - {"autorank-lora"}
    import_names = {"rouge-score": "rouge_score", "universal-pathlib": "upath"}
    assert {import_names.get(package, package) for package in listed} == app.SEARCH_PACKAGES


def completions(words: str, cwd: Path) -> list[str]:
    """The completions for bash of the last word; heavy packages such as torch and Ray cannot be imported."""
    env = os.environ | {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_AUTORANK_COMPLETE": "complete_bash"}
    code = f"{BLOCKED}import autorank.cli.app as c; sys.argv = ['autorank']; c.app(prog_name='autorank')"
    result = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert "Traceback" not in result.stderr, result.stderr
    return result.stdout.split()


def test_shell_completion_candidates(tmp_path: Path) -> None:
    for file in ("runs/one/journal.log", "runs/onto/journal.log", "other/three/journal.log", "runs/mine/recipe.jsonl"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    expected = {
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
    assert {words: completions(words, tmp_path) for words in expected} == expected


def test_completion_script_for_bash() -> None:
    env = os.environ | {"_AUTORANK_COMPLETE": "source_bash"}
    result = subprocess.run(
        [sys.executable, "-c", "import autorank.cli.app as c; c.app(prog_name='autorank')"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert re.search(r"complete .*autorank", result.stdout), result.stdout


def test_the_wheel_has_the_markers_for_type_checkers(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(Path(__file__).parents[2])).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"autorank/py.typed", "trainables/py.typed", "autorank/doctor/__init__.py"} <= names
