"""Who listens where."""

from __future__ import annotations

import psutil


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children take connections."""
    family = [process, *process.children(recursive=True)]
    sockets = [each for one in family for each in one.net_connections("inet")]
    return {each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == psutil.CONN_LISTEN}
