"""Renders the templates of model cards and of their code; plain text, so nothing is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A rendered file of `templates/`.

    Args:
        template: File name, without the ending `.j2`.
        **values: The template's variables.

    Returns:
        The text, without a newline at the end.
    """
    return _environment().get_template(f"{template}.j2").render(values).rstrip("\n")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("autorank.export.cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,
    )  # fmt: skip
    environment.filters["repr"] = repr
    return environment
