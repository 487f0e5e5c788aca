"""Whether this machine can run autorank: what is installed, what is within reach, and what to do where it is not.

Nothing is started, and nothing is written but what the libraries write for themselves when they are asked. A check
that raises is a finding, for a broken installation is what this is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from autorank.doctor import connections, installed, machine
from autorank.doctor.finding import OWN_REPAIR, Finding, said

__all__ = ["Finding", "findings"]


def findings(runs: Path, tracking_uri: str | None = None) -> Iterator[Finding]:
    """Look at everything, quick things first. `runs`: the folder of searches; `tracking_uri`: MLflow's store."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": installed.python,
        "packages": installed.packages,
        "optional": installed.optional,
        "machine": machine.cores,
        "runs": partial(machine.folder, "runs", runs, "Choose another folder with --runs DIR."),
        "cache": machine.cache,
        "Hub's cache": connections.models,
        "Hub": connections.hub,
        "MLflow": partial(connections.store, runs, tracking_uri),
        "torch": machine.torch_and_gpu,
        "Ray": installed.ray,
        "transformers": partial(installed.load, "transformers", "transformers", "transformers"),
        "methods": installed.methods,
    }
    for what, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(what, "problem", said(error), OWN_REPAIR)
