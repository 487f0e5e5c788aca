"""What is installed: the packages, their versions, whether they can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from autorank.doctor.finding import REPAIR, Finding, said
from autorank.errors import AutorankError

DISTRIBUTION = "autorank-lora"
OPTIONAL = {  # distribution -> what it is for, how to have it
    "s3fs": ("--storage s3://...", "pip install s3fs"),
    "bitsandbytes": ("--quantize 4bit", "pip install bitsandbytes"),
    "optuna-dashboard": ("looking into a search's journal", "pip install optuna-dashboard"),
}


def python() -> Iterator[Finding]:
    """Which Python this is; pip refuses to install autorank for one that is too old."""
    yield Finding("Python", "ok", f"{sys.version.split()[0]}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """The packages that autorank needs, against the versions that it asks for."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        text = "autorank itself is not installed, so versions are not compared"
        yield Finding("packages", "note", text, "pip install -e '.[search]' in its folder")
        return
    yield from _other_autorank()
    if not _is_installed("ray"):
        text = "not installed: `autorank train` works, searches do not"
        yield Finding("search", "note", text, f"pip install '{DISTRIBUTION}[search]'")
    extras = ("", "data", "search") if _is_installed("ray") else ("",)
    needed = {
        str(each).partition(";")[0]: each
        for each in requirements
        if each.name != DISTRIBUTION
        and (each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras))
    }
    lacking = {text: wrong for text, each in needed.items() if (wrong := _lacking(each))}
    for text, wrong in lacking.items():
        yield Finding("packages", "problem", "; ".join(wrong), f"pip install '{text}'")
    if not lacking:
        version = importlib.metadata.version(DISTRIBUTION)
        yield Finding("packages", "ok", f"{DISTRIBUTION} {version} and the {len(needed)} packages that it needs")


def _other_autorank() -> Iterator[Finding]:
    """The statistics package on PyPI that installs a package of the same name."""
    if _is_installed("autorank"):
        from autorank_lora import REMEDY

        text = f"PyPI's statistics package autorank {importlib.metadata.version('autorank')} is installed, too: "
        yield Finding("autorank", "problem", f"{text}both install a package `autorank`, so one is broken", REMEDY)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def optional() -> Iterator[Finding]:
    """The packages that only some options need."""
    for name, (purpose, remedy) in OPTIONAL.items():
        try:
            yield Finding(name, "ok", f"{importlib.metadata.version(name)}, for {purpose}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "note", f"not installed; only needed for {purpose}", remedy)


def ray() -> Iterator[Finding]:
    """Whether Ray can be imported; without it nothing can be searched."""
    if _is_installed("ray"):
        yield from load("Ray", "ray", "'ray[default,train,tune]'")


def load(what: str, module: str, package: str) -> Iterator[Finding]:
    """Whether a module can be imported. `package`: what pip installs it by."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
    except Exception as error:
        yield Finding(what, "problem", f"cannot be imported: {said(error)}", f"{REPAIR} {package}")
    else:
        yield Finding(what, "ok", str(getattr(found, "__version__", "there")))


def methods() -> Iterator[Finding]:
    """Whether the methods that are installed load."""
    from autorank.methods import OWN, find, names

    try:
        there = names()
    except AutorankError as error:
        yield Finding("methods", "problem", str(error), f"Correct {OWN}, or unset it.")
        return
    broken: dict[str, list[str]] = {}
    for name in there:
        try:
            find(name)
        except Exception as error:
            broken.setdefault(said(error.__cause__ or error), []).append(name)
    for why, which in broken.items():
        remedy = f"Install their package again, or not at all; of your own, correct {OWN}."
        yield Finding("methods", "problem", f"{', '.join(which)}: {why}", remedy)
    if not there:
        yield Finding("methods", "problem", "there are none", "Install autorank again: pip install -e . in its folder.")
    elif not broken:
        yield Finding("methods", "ok", f"{len(there)} load")


def _lacking(needed: Any) -> list[str]:
    """What of a `Requirement`, those of its extras included, is missing or too old."""
    from packaging.requirements import Requirement

    try:
        there = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return [f"{needed.name} is missing"]
    fits = needed.specifier.contains(there, prereleases=True)
    found = [] if fits else [f"{needed.name} is {there}, wanted is {needed.specifier}"]
    if needed.extras:
        for each in map(Requirement, importlib.metadata.requires(needed.name) or []):
            marker = each.marker
            if marker is None or marker.evaluate({"extra": ""}):
                continue  # needed without extras too, so pip has seen to it
            if any(marker.evaluate({"extra": extra}) for extra in needed.extras):
                found += _lacking(each)
    return found
