"""Free ports, and the listening sockets of processes."""

from __future__ import annotations

import contextlib
import socket

import psutil


def free_port() -> int:
    """A port of this machine on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listen_addresses(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children listen."""
    sockets = []
    for child in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in the meantime
            sockets += child.net_connections("inet")
    return {
        connection.laddr.ip.removeprefix("::ffff:") for connection in sockets if connection.status == psutil.CONN_LISTEN
    }
