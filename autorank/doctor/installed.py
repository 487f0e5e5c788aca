"""Checks of the installed packages: versions, and whether they can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from autorank.doctor.finding import REINSTALL, Finding, first_line
from autorank.errors import AutorankError

DISTRIBUTION = "autorank-lora"
OPTIONAL = {  # distribution -> purpose, remedy
    "s3fs": ("--storage s3://...", "pip install s3fs"),
    "bitsandbytes": ("--quantize 4bit", "pip install bitsandbytes"),
    "optuna-dashboard": ("browsing a search's journal", "pip install optuna-dashboard"),
}


def python() -> Iterator[Finding]:
    """Report the version of Python; pip refuses to install autorank for versions that are too old."""
    yield Finding("Python", "ok", f"{sys.version.split()[0]}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """Check the versions of required packages."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        text = "autorank is not installed, so versions are not checked"
        yield Finding("packages", "note", text, "pip install -e '.[search]' in its directory")
        return
    yield from _other_autorank()
    if not _is_installed("ray"):
        text = "not installed: `autorank train` works, searches do not"
        yield Finding("search", "note", text, f"pip install '{DISTRIBUTION}[search]'")
    extras = ("", "data", "search") if _is_installed("ray") else ("",)
    needed = {
        str(requirement).partition(";")[0]: requirement
        for requirement in requirements
        if requirement.name != DISTRIBUTION
        and (requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras))
    }
    unmet = {text: reasons for text, requirement in needed.items() if (reasons := _unmet(requirement))}
    for text, reasons in unmet.items():
        yield Finding("packages", "problem", "; ".join(reasons), f"pip install '{text}'")
    if not unmet:
        version = importlib.metadata.version(DISTRIBUTION)
        yield Finding("packages", "ok", f"{DISTRIBUTION} {version} and its {len(needed)} required packages")


def _other_autorank() -> Iterator[Finding]:
    """Report the statistics package on PyPI, which installs a package of the same name."""
    if _is_installed("autorank"):
        from autorank_lora import REMEDY

        text = f"PyPI's statistics package autorank {importlib.metadata.version('autorank')} is installed too: "
        yield Finding(
            "autorank", "problem", f"{text}both install a package `autorank`, so one of them is broken", REMEDY
        )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def optional() -> Iterator[Finding]:
    """Check the packages that only some options need."""
    for name, (purpose, remedy) in OPTIONAL.items():
        try:
            yield Finding(name, "ok", f"{importlib.metadata.version(name)}, for {purpose}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "note", f"not installed; needed only for {purpose}", remedy)


def ray() -> Iterator[Finding]:
    """Check that Ray, if it is installed, can be imported."""
    if _is_installed("ray"):
        yield from load("Ray", "ray", "'ray[default,train,tune]'")


def load(subject: str, module: str, package: str) -> Iterator[Finding]:
    """Check that a module can be imported.

    Args:
        subject: The name in the report.
        module: The module.
        package: The requirement with which pip installs it.

    Yields:
        The result of the check.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            imported = importlib.import_module(module)
    except Exception as error:
        yield Finding(subject, "problem", f"cannot be imported: {first_line(error)}", f"{REINSTALL} {package}")
    else:
        yield Finding(subject, "ok", str(getattr(imported, "__version__", "installed")))


def methods() -> Iterator[Finding]:
    """Check that the installed methods can be imported."""
    from autorank.methods import METHODS_VARIABLE, find, names

    try:
        installed = names()
    except AutorankError as error:
        yield Finding("methods", "problem", str(error), f"Correct {METHODS_VARIABLE}, or unset it.")
        return
    broken: dict[str, list[str]] = {}
    for name in installed:
        try:
            find(name)
        except Exception as error:
            broken.setdefault(first_line(error.__cause__ or error), []).append(name)
    for reason, broken_names in broken.items():
        remedy = f"Reinstall or remove their package; for your own methods, correct {METHODS_VARIABLE}."
        yield Finding("methods", "problem", f"{', '.join(broken_names)}: {reason}", remedy)
    if not installed:
        yield Finding(
            "methods", "problem", "none is installed", "Reinstall autorank: pip install -e . in its directory."
        )
    elif not broken:
        yield Finding("methods", "ok", f"{len(installed)} methods can be imported")


def _unmet(needed: Any) -> list[str]:
    """Why a `Requirement`, its extras included, is not met: packages that are missing or too old."""
    from packaging.requirements import Requirement

    try:
        installed = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return [f"{needed.name} is missing"]
    fits = needed.specifier.contains(installed, prereleases=True)
    reasons = [] if fits else [f"{needed.name} {installed} is installed, {needed.specifier} is required"]
    if needed.extras:
        for requirement in map(Requirement, importlib.metadata.requires(needed.name) or []):
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}):
                continue  # also required without extras, so pip has checked it
            if any(marker.evaluate({"extra": extra}) for extra in needed.extras):
                reasons += _unmet(requirement)
    return reasons
