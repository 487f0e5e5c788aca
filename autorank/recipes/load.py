"""Reads recipes from YAML files, those that come with autorank included."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from autorank.errors import AutorankError, explain, unknown
from autorank.recipes.schema import Assumed, LineSpec, Recipe, Reported
from autorank.recipes.validation import mistakes

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "papers", PACKAGE.parent / "examples" / "papers")  # in an installation; in a checkout
KEYS = {name for schema in (Recipe, LineSpec, Assumed, Reported) for name in schema.model_fields}


def read(file: Path) -> Recipe:
    """Read and check a recipe.

    Args:
        file: A YAML file, or the name of a recipe that comes with autorank.

    Returns:
        The recipe.

    Raises:
        AutorankError: The file cannot be read, or lists all mistakes in it.
    """
    known = shipped()
    if not file.exists() and file.name in known:
        file = known[file.name]
    elif not file.exists() and not file.suffix:
        raise unknown("recipe", file.name, known)
    recipe = parse(file)
    if errors := mistakes(recipe):
        raise AutorankError(f"The recipe {file} is not valid:\n" + "\n".join(f"  {error}" for error in errors))
    return recipe


def parse(file: Path) -> Recipe:
    """Read a recipe and check its form, but not the tasks, methods and settings that it names.

    Args:
        file: The YAML file.

    Returns:
        The recipe.

    Raises:
        AutorankError: The file cannot be read, or does not have the form of a recipe.
    """
    from autorank.searching.space.yaml_values import Yaml, yaml_errors

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(
            f"The recipe {file} cannot be read: {getattr(error, 'strerror', None) or error}. "
            "`autorank papers` lists those that come with autorank."
        ) from error
    with yaml_errors(f"The recipe {file}"):
        values = yaml.load(text, Yaml)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, f"The recipe {file}", KEYS) from None


def shipped() -> dict[str, Path]:
    """Return the recipes that come with autorank: name -> file."""
    return {file.stem: file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))}
