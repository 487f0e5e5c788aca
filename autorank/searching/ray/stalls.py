"""Why no trial of a search progresses, in sentences for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from autorank.errors import counted
from autorank.searching.ray.resources import Resources, worker_capacity

BUSY = 0.02  # CPU seconds a second: Ray's own threads in an idle process use less (ours)
INTERNAL = ("ray::IDLE", "ray::DashboardA", "ray::RuntimeEnv")  # prefixes: the system cuts names
STATES = {
    psutil.STATUS_STOPPED: "stopped by a signal (kill -CONT {pid} continues it)",
    psutil.STATUS_DISK_SLEEP: "waiting for a disk or a network file system",
}


def why_waiting(nodes: Sequence[Mapping[str, Any]], free: Mapping[str, float], resources: Resources) -> str:
    """Explain why no trial runs.

    Args:
        nodes: Resources of each node that is alive.
        free: Resources that nothing uses, of all nodes together.
        resources: What a trial needs.

    Returns:
        A few sentences.
    """
    cpus, gpus = resources.workers * resources.cpus, resources.workers * resources.gpus
    available = f"{free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"
    state = f"Free on {counted(len(nodes), 'node')}: {available}; a trial needs {cpus:g} and {gpus:g}."
    if worker_capacity(nodes, resources.cpus, resources.gpus) < resources.workers:
        return (
            f"{state} The nodes of the cluster are too small for it, because a node has left. Trials start when such a "
            "node joins; or end the search and continue it with the nodes that remain."
        )
    if free.get("CPU", 0) < cpus or free.get("GPU", 0) < gpus:
        return f"{state} Trials start when other work on the cluster ends, or nodes join."
    return f"{state} Processes start slowly here, or Ray is stuck: see ray.log in the search's directory."


def trial_processes(driver: psutil.Process) -> list[psutil.Process]:
    """Return the processes of trials that a local Ray of a driver has started.

    Args:
        driver: The process of the search.

    Returns:
        Those whose title Ray has set, without its own agents and idle processes.
    """
    processes = []
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if process.name().startswith("ray::") and not process.name().startswith(INTERNAL):
                processes.append(process)
    return processes


class TrialProcesses:
    """The processes of trials of a local Ray, and whether they work.

    Args:
        driver: The process of the search.
    """

    def __init__(self, driver: psutil.Process) -> None:
        self._driver = driver
        self._seconds: dict[int, float] = {}  # process id -> CPU time at the last call

    def stuck(self, elapsed: float) -> str | None:
        """Describe the processes if all have used no CPU since the last call.

        Args:
            elapsed: Seconds since the last call.

        Returns:
            A sentence; None if a process works, has started since, or none exists.
        """
        before, states = self._seconds, {}
        self._seconds = {}
        for process in trial_processes(self._driver):
            with contextlib.suppress(psutil.Error):  # it has ended
                times = process.cpu_times()
                self._seconds[process.pid] = times.user + times.system
                states[process.pid] = STATES.get(process.status(), "waiting").format(pid=process.pid)
        if not states or any(
            seconds - before.get(pid, float("-inf")) > BUSY * elapsed for pid, seconds in self._seconds.items()
        ):
            return None
        return "; ".join(f"process {pid} is {state}" for pid, state in states.items())
