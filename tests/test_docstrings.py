"""Public functions have the sections that their docstrings need; ruff (D417) checks Args sections."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("autorank", "trainables")
MIN_PARAMETERS = 3  # parameters; with fewer, the summary may name all of them
EXEMPT = ("autorank/cli/",)  # the docstrings are help pages

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(body: list[ast.stmt], name: str = "") -> Iterator[tuple[str, Function]]:
    """Public functions and methods, except overrides, which inherit their docstring."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from functions(node.body, f"{name}{node.name}.")
            elif "override" not in map(ast.unparse, node.decorator_list):
                yield name + node.name, node


def missing_sections(function: Function) -> list[str]:
    """The sections that a function's docstring lacks."""
    text = ast.get_docstring(function) or ""
    parameters = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    names = {parameter.arg for parameter in parameters} - {"self", "cls"}
    raised = {ast.unparse(node.exc) for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc}
    returned = ast.unparse(function.returns) if function.returns else "None"
    required = {
        "Args:": len(names) >= MIN_PARAMETERS,
        "Returns:": "Args:" in text and returned not in ("None", "Never", "Iterator[None]") and "Yields:" not in text,
        "Raises:": any(error.startswith("AutorankError(") for error in raised),
    }
    return [section for section, needed in required.items() if needed and section not in text]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_have_all_sections(package: str) -> None:
    incomplete = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        path = str(file.relative_to(ROOT))
        if not path.startswith(EXEMPT):
            for name, function in functions(ast.parse(file.read_text(encoding="utf-8")).body):
                if sections := missing_sections(function):
                    incomplete[f"{path} {name}"] = sections
    assert not incomplete
