"""Checks of directories that libraries use by themselves, of the user, and of Ray processes of others."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autorank.doctor.finding import Finding
from autorank.errors import AutorankError
from autorank.searching.ray.cluster import local_paths

RAY_PROCESSES = ("gcs_server", "raylet")


def user() -> Iterator[Finding]:
    """Check that the user has a name and a home directory that can be written."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        remedy = "If a library needs the name, set USER to any name."
        yield Finding("user", "note", f"user id {uid} has no entry in /etc/passwd", remedy)
    else:
        yield Finding("user", "ok", name)
    remedy = "Set HOME, or instead HF_HOME and AUTORANK_CACHE, to directories that you can write."
    try:
        home = Path.home()
    except RuntimeError:
        yield Finding("home", "note", "the home directory is unknown", remedy)
        return
    if home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        yield Finding("home", "ok", str(home))
    else:
        yield Finding("home", "note", f"{home} cannot be written", remedy)


def temporary() -> Iterator[Finding]:
    """Check the temporary directory, and the one in which a local Ray writes its sessions."""
    folder = tempfile.gettempdir()
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        remedy = "Searches work. If a library cannot load code that it compiles there, set TMPDIR to another directory."
        yield Finding("temporary", "note", f"{folder} is mounted noexec", remedy)
    else:
        yield Finding("temporary", "ok", folder)
    problem = local_paths.problem(local_paths.default_temp_dir())
    try:
        used = local_paths.temp_dir()
    except AutorankError as error:
        yield Finding("Ray's files", "problem", str(error), "Set RAY_TMPDIR to a directory with a short path.")
        return
    if problem is None:
        yield Finding("Ray's files", "ok", str(used))
    else:
        remedy = "To choose another directory with a short path, set RAY_TMPDIR."
        yield Finding("Ray's files", "note", f"{problem}; a local Ray uses {used}", remedy)


def other_ray() -> Iterator[Finding]:
    """Report a Ray that runs on this machine, or that searches would join."""
    import psutil

    if address := os.environ.get("RAY_ADDRESS"):
        yield Finding("RAY_ADDRESS", "note", f"searches join the cluster at {address}", "For a local search, unset it.")
    processes = [
        process.info
        for process in psutil.process_iter(["pid", "name", "username", "uids"])
        if process.info["name"] in RAY_PROCESSES
    ]
    if processes:
        users = sorted({info["username"] or f"user id {info['uids'].real}" for info in processes})
        text = f"a Ray of {', '.join(users)} runs on this machine (process {processes[0]['pid']})"
        remedy = (
            "A search starts its own and shares cores and memory with it; limit it with --concurrency. To use the "
            "running one, pass --address auto."
        )
        yield Finding("other Ray", "note", text, remedy)
