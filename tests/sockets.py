"""Listening sockets of processes."""

from __future__ import annotations

import contextlib

import psutil


def listen_addresses(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children listen."""
    sockets = []
    for child in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in the meantime
            sockets += child.net_connections("inet")
    return {
        connection.laddr.ip.removeprefix("::ffff:") for connection in sockets if connection.status == psutil.CONN_LISTEN
    }
