"""The generated parts of docs/methods.md: settings, search spaces, and differences from published code.

python -m tests.docs.methods_page    # writes them into the page
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from autorank.methods import find, names
from autorank.searching.space.space import builtin
from autorank.searching.space.yaml_values import Yaml
from tests.docs.blocks import ROOT, text

PAGE = "docs/methods.md"
TABLE = re.compile(r"(<!-- settings of ([\w-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """A Markdown table of a method's settings: default, meaning, and range in its search space."""
    import yaml

    space = yaml.load(builtin(name), Yaml)
    lines = ["| setting | default | what it is | searched | source of the range |", "|---|---|---|---|---|"]
    for setting, field in find(name).Config.model_fields.items():
        entry = space.get(setting)
        source = entry.get("source", "") if isinstance(entry, dict) else ""
        cells = [f"`{setting}`", _value(field.default), field.description or "", _search_range(entry), source]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


DIFFERENCES = re.compile(r"^(Differs from [^\n]*:)\n\n((?:  .*\n?|\n)+)", re.MULTILINE)


def differences(name: str) -> str:
    """The parts of a method's module docstring that say how it differs from published code, as Markdown lists."""
    docstring = inspect.cleandoc(sys.modules[find(name).__module__].__doc__ or "")
    parts = [f"{title}\n\n{inspect.cleandoc(items)}\n" for title, items in DIFFERENCES.findall(docstring)]
    return "".join("\n" + part for part in parts)


def page() -> str:
    """The page with its generated parts up to date."""
    return TABLE.sub(lambda match: match[1] + table(match[2]) + differences(match[2]), text(PAGE))


def documented_methods() -> list[str]:
    """The methods on the page, in its order."""
    return [match[2] for match in TABLE.finditer(text(PAGE))]


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _search_range(entry: Any) -> str:
    if entry is None:
        return ""
    if not isinstance(entry, dict):
        return f"{_value(entry)}, fixed"
    if "choices" in entry:
        return ", ".join(_value(choice) for choice in entry["choices"])
    return f"{_value(entry['low'])} to {_value(entry['high'])}" + (", log" if entry.get("log") else "")


if __name__ == "__main__":
    missing = set(names()) - set(documented_methods())
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(f"{len(documented_methods())} tables written; no table yet for: {', '.join(sorted(missing)) or 'none'}")
