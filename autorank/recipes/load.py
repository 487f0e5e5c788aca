"""Reads recipes from YAML files, those that come with autorank included."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from autorank.errors import AutorankError, unknown
from autorank.recipes.schema import Assumed, Block, Recipe, Reported
from autorank.recipes.validation import mistakes
from autorank.spec import explain

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "papers", PACKAGE.parent / "examples" / "papers")  # installed; a checkout
KEYS = {name for block in (Recipe, Block, Assumed, Reported) for name in block.model_fields}


def read(file: Path) -> Recipe:
    """The recipe in a file, or the one of that name that comes with autorank.

    Raises:
        AutorankError: it cannot be read or is not valid, or what it names is not installed; all mistakes at once.
    """
    there = shipped()
    if not file.exists() and file.name in there:
        file = there[file.name]
    elif not file.exists() and not file.suffix:
        raise unknown("recipe", file.name, there)
    recipe = parse(file)
    if found := mistakes(recipe):
        raise AutorankError(f"The recipe {file} is not valid:\n" + "\n".join(f"  {each}" for each in found))
    return recipe


def parse(file: Path) -> Recipe:
    """The recipe in a file, its form checked, but not whether there is what it names."""
    from autorank.searching.space.space import Yaml

    try:
        return Recipe.model_validate(yaml.load(file.read_text(encoding="utf-8"), Yaml))
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(
            f"The recipe {file} cannot be read: {getattr(error, 'strerror', None) or error}. "
            "`autorank papers` lists those that come with autorank."
        ) from error
    except yaml.YAMLError as error:
        raise AutorankError(f"The recipe {file} is not YAML: {error}") from error
    except ValidationError as error:
        raise explain(error, f"The recipe {file}", KEYS) from None


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes that come with autorank."""
    return {file.stem: file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))}
