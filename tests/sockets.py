"""Who listens where."""

from __future__ import annotations

import contextlib

import psutil


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children take connections."""
    sockets = []
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in the meantime
            sockets += one.net_connections("inet")
    return {each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == psutil.CONN_LISTEN}
