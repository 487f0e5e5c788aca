"""The range of one setting in a search space: its errors, its ends, whether it contains a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from autorank.errors import similar
from autorank.trials.distributions import number_distribution

KEYS = ("type", "low", "high", "log", "step", "choices", "source")
Range = Mapping[str, Any]


def problems(entry: Range) -> list[str]:
    """Return all errors of a range that do not depend on the setting."""
    errors = [f"unknown key {key!r}{hint(str(key), KEYS)}" for key in entry if key not in KEYS]
    if "choices" in entry:
        return errors + _choice_problems(entry)
    if entry.get("type") not in ("int", "float"):
        reason = f"has type {entry['type']!r}" if "type" in entry else "has no type"
        return [*errors, f"{reason}; give type: int or float with low and high, or choices: [...]"]
    errors += [f"{key} is missing" for key in ("low", "high") if key not in entry]
    for key in ("low", "high", "step"):
        if key in entry and not _is_number(entry[key], entry["type"]):
            expected = "an integer" if entry["type"] == "int" else "a number"
            errors.append(f"{key} must be {expected} (got {entry[key]!r})")
    if not isinstance(entry.get("log", False), bool):
        errors.append(f"log must be true or false (got {entry['log']!r})")
    return errors or _contradictions(entry)


def ends(entry: Range) -> list[Any]:
    """Return the lowest and the highest value of a range, or all its choices."""
    if "choices" in entry:
        return list(entry["choices"])
    low = entry["low"]
    high = number_distribution(entry).high if "step" in entry else entry["high"]
    return [low] if low == high else [low, high]


def probes(entry: Range) -> list[Any]:
    """Return values that show whether a method accepts the range: its ends, and a fraction for an integer setting."""
    if "choices" in entry or entry["type"] == "int":
        return ends(entry)
    low, high = entry["low"], entry["high"]
    return [*ends(entry), low + 0.3819 * (high - low)]


def contains(entry: Range, value: Any) -> bool:
    """Return whether a value lies in a range; 8.0 counts as an integer."""
    if "choices" in entry:
        return bool(value in entry["choices"])
    if entry["type"] == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _is_number(value, entry["type"]) or not entry["low"] <= value <= entry["high"]:
        return False
    steps = (value - entry["low"]) / entry["step"] if "step" in entry else 0.0
    return bool(abs(steps - round(steps)) < 1e-9)


def hint(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` with the most similar name, or all known names."""
    near = similar(name, known)
    return f" (did you mean {near!r}?)" if near else f" (available: {', '.join(sorted(known))})"


def _choice_problems(entry: Range) -> list[str]:
    conflicting = [key for key in ("type", "low", "high", "log", "step") if key in entry]
    errors = [f"choices and {key} do not go together" for key in conflicting]
    choices = entry["choices"]
    if not isinstance(choices, list) or not choices:
        errors.append(f"choices must be a list of values (got {choices!r})")
    elif not all(choice is None or isinstance(choice, str | int | float) for choice in choices):
        errors.append(f"choices must be plain values (got {choices!r})")
    elif len(set(map(repr, choices))) < len(choices):
        errors.append(f"choices must differ (got {choices!r})")
    return errors


def _contradictions(entry: Range) -> list[str]:
    """Errors between the keys of a range that are valid one by one."""
    low, high = entry["low"], entry["high"]
    errors = []
    if low > high:
        errors.append(f"low {low} is above high {high}")
    if entry.get("log") and low <= 0:
        errors.append(f"log needs low above 0 (got {low})")
    if entry.get("log") and "step" in entry:
        errors.append("log and step do not go together")
    if entry.get("step", 1) <= 0:
        errors.append(f"step must be above 0 (got {entry['step']})")
    return errors


def _is_number(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        return False
    return math.isfinite(value)
