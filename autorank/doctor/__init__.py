"""Checks of the installation, the machine and the connections, with suggested fixes.

Nothing is started, and nothing is written except by the libraries themselves. A check that raises is reported as a
problem, since a broken installation is what the checks look for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from autorank.doctor import connections, installed, machine, paths
from autorank.doctor.finding import REINSTALL_AUTORANK, Finding, first_line

__all__ = ["Finding", "findings"]


def findings(runs: Path, tracking_uri: str | None = None) -> Iterator[Finding]:
    """Run all checks, quick ones first.

    Args:
        runs: The directory of all searches.
        tracking_uri: Address of the MLflow store. None: the default store of `runs`.

    Yields:
        One finding per line of the report.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": installed.python,
        "packages": installed.packages,
        "optional": installed.optional,
        "machine": machine.cores,
        "user": paths.user,
        "temporary": paths.temporary,
        "other Ray": paths.other_ray,
        "runs": partial(machine.folder, "runs", runs, "Choose another directory with --runs DIR."),
        "cache": machine.cache,
        "Hub's cache": connections.models,
        "Hub": connections.hub,
        "MLflow": partial(connections.store, runs, tracking_uri),
        "torch": machine.torch_and_gpu,
        "Ray": installed.ray,
        "transformers": partial(installed.load, "transformers", "transformers", "transformers"),
        "methods": installed.methods,
    }
    for subject, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(subject, "problem", first_line(error), REINSTALL_AUTORANK)
