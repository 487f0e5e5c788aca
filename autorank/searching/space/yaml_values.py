"""Values in YAML: of files, and of settings given as `key=value`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from autorank.errors import AutorankError


class Yaml(yaml.SafeLoader):
    """YAML with numbers as in YAML 1.2: PyYAML's own rules read 5e-5 as text."""


Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_settings(overrides: Iterable[str]) -> dict[str, Any]:
    """Return settings from `key=value` texts, with values in YAML.

    Raises:
        AutorankError: A text is not of this form.
    """
    settings, mistakes = read_overrides(overrides)
    if mistakes:
        raise AutorankError("\n".join(mistakes))
    return settings


def read_overrides(overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in `key=value` texts with values in YAML, and the errors in these texts."""
    settings, mistakes = {}, []
    for text in overrides:
        name, equals, value = text.partition("=")
        try:
            parsed = yaml.load(value, Yaml)
        except yaml.YAMLError:
            parsed = value
        if not equals or not name.strip():
            mistakes.append(f"--set {text}: write --set key=value")
        elif isinstance(parsed, dict | list):
            mistakes.append(f"{name}: --set fixes one value (got {value}); a range belongs into a --space FILE")
        else:
            settings[name.strip()] = parsed
    return settings, mistakes
