"""Values in YAML: of files, and of settings given as `key=value`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from typing_extensions import override

from autorank.errors import AutorankError

TIMESTAMP, MERGE = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"


class Yaml(yaml.SafeLoader):
    """YAML as in version 1.2: PyYAML's own rules read 5e-5 as text and 2024-01-02 as a date, and allow equal keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as in the base class
        first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    @override
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        mapping, listed = super().compose_mapping_node(anchor), set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in listed:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value!r} is listed twice", key.start_mark
                    )
                listed.add(key.value)
        return mapping


Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


@contextmanager
def yaml_errors(subject: str) -> Iterator[None]:
    """Report errors in a YAML text that is read within this context.

    Args:
        subject: What the text is of: `The space in FILE`.

    Raises:
        AutorankError: The text is not YAML, with the reason and its line.
    """
    try:
        yield
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of Python's types, such as `!!int x`
        reason = "a value contains itself, or is nested too deeply" if isinstance(error, RecursionError) else error
        raise AutorankError(f"{subject} is not YAML: {reason}") from error


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
        except (yaml.YAMLError, ValueError, RecursionError):
            parsed = value
        if not equals or not name.strip():
            mistakes.append(f"--set {text}: write --set key=value")
        elif isinstance(parsed, dict) or (isinstance(parsed, list) and any(isinstance(x, dict | list) for x in parsed)):
            mistakes.append(f"{name}: --set fixes one value (got {value}); a range belongs into a --space FILE")
        else:
            settings[name.strip()] = parsed
    return settings, mistakes
