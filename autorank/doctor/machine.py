"""What the machine has: cores, memory, GPUs, folders with room."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from autorank import cache as kept
from autorank.doctor.finding import GB, Finding, State, size
from autorank.doctor.installed import load
from autorank.errors import AutorankError
from autorank.searching.ray.resources import cpu_count

ROOM, SCARCE = 1 * GB, 5 * GB  # bytes of free disk: no search gets far with less; a few base models fill the other
MEMORY = 4 * GB  # bytes: two trials of RoBERTa-base and the driver
SHARED = 128 * 2**20  # bytes that Ray's store takes of /dev/shm, see search/cluster.py


def cores() -> Iterator[Finding]:
    """Cores, memory, and the shared memory that Ray keeps its objects in."""
    yield Finding("cores", "ok", str(cpu_count()))
    memory = _memory()
    few = memory < MEMORY
    remedy = "Run one trial at a time (--concurrency 1), of a small --model." if few else ""
    yield Finding("memory", "note" if few else "ok", size(memory), remedy)
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        if free < SHARED:
            remedy = "Make it larger; in a container: docker run --shm-size=1g."
            yield Finding("/dev/shm", "note", f"{size(free)} free: Ray will use the slower /tmp", remedy)
        else:
            yield Finding("/dev/shm", "ok", f"{size(free)} free")


def torch_and_gpu() -> Iterator[Finding]:
    """torch and what it computes on."""
    found = [*load("torch", "torch", "torch")]
    yield from found
    if found[0].state == "problem":
        return
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16, so fp32 unless --precision fp16"
            yield Finding("GPU", "ok", f"{about.name}, {size(about.total_memory)}, CUDA {torch.version.cuda}, {bf16}")
    elif shutil.which("nvidia-smi"):
        why = str(said[0].message).partition("\n")[0] if said else "torch finds none"
        why = "this torch is built for the CPU" if torch.version.cuda is None else why
        remedy = "Install the torch that pytorch.org names for the CUDA version that `nvidia-smi` shows."
        yield Finding("GPU", "problem", f"there is an NVIDIA driver, but {why}", remedy)
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "note", "Apple's (MPS), which autorank does not use: it trains on the CPU")
    else:
        yield Finding("GPU", "note", "none; the demo, small models and few examples do without")


def cache() -> Iterator[Finding]:
    """The folder in which autorank keeps what it can make again."""
    remedy = "Set AUTORANK_CACHE to another folder."
    try:
        place = kept.folder()
    except AutorankError as error:
        yield Finding("cache", "problem", str(error), remedy)
    else:
        yield from folder("cache", place, remedy)


def folder(what: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """Whether a folder, or the first above it that is there, takes files, and how many."""
    folder = folder.absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"?")
    except OSError as error:
        yield Finding(what, "problem", f"cannot write to {folder}: {error.strerror or error}", remedy)
        return
    free = shutil.disk_usage(there).free
    state: State = "problem" if free < ROOM else "note" if free < SCARCE else "ok"
    yield Finding(what, state, f"{folder}, {size(free)} free", "" if state == "ok" else f"Make room. {remedy}")


def _memory() -> float:
    """Bytes of the machine, or those that its container may use."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(file).read_text()))
        except (OSError, ValueError):  # no such limit
            continue
    return min(limits)
