"""Checks of the machine: CPU cores, memory, GPUs, disk space."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from autorank import cache as cache_files
from autorank.doctor.finding import GB, Finding, State, size
from autorank.doctor.installed import load
from autorank.errors import AutorankError
from autorank.searching.ray.resources import cpu_count

MIN_FREE, LOW_FREE = 1 * GB, 5 * GB  # bytes of free disk space: a problem below the first, a note below the second
MIN_MEMORY_BYTES = 4 * GB  # bytes: two trials of RoBERTa-base and the driver
MIN_SHM_BYTES = 128 * 2**20  # bytes of /dev/shm that Ray's object store uses, see searching/ray/cluster/connection.py


def cores() -> Iterator[Finding]:
    """Report CPU cores, memory, and the shared memory for Ray's objects."""
    yield Finding("cores", "ok", str(cpu_count()))
    memory = _memory()
    is_small = memory < MIN_MEMORY_BYTES
    remedy = "Run one trial at a time (--concurrency 1) with a small --model." if is_small else ""
    yield Finding("memory", "note" if is_small else "ok", size(memory), remedy)
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        if free < MIN_SHM_BYTES:
            remedy = "Enlarge it; in a container: docker run --shm-size=1g."
            yield Finding("/dev/shm", "note", f"{size(free)} free; Ray will use the slower /tmp", remedy)
        else:
            yield Finding("/dev/shm", "ok", f"{size(free)} free")


def torch_and_gpu() -> Iterator[Finding]:
    """Check torch, and report the GPUs that it uses."""
    torch_findings = [*load("torch", "torch", "torch")]
    yield from torch_findings
    if torch_findings[0].state == "problem":
        return
    import torch

    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if is_available:
        from autorank.training.gpu import native_bf16

        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            precision = "bf16" if native_bf16(index) else "fp16, because bf16 is emulated"
            platform = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
            yield Finding("GPU", "ok", f"{gpu.name}, {size(gpu.total_memory)}, {platform}, {precision}")
    elif shutil.which("nvidia-smi"):
        reason = str(messages[0].message).partition("\n")[0] if messages else "torch finds no GPU"
        reason = "this torch is built for the CPU" if torch.version.cuda is None else reason
        remedy = "Install the build of torch for the CUDA version that `nvidia-smi` shows; pytorch.org lists them."
        yield Finding("GPU", "problem", f"an NVIDIA driver is installed, but {reason}", remedy)
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "ok", "Apple MPS, fp32")
    else:
        yield Finding("GPU", "note", "none; the CPU suffices for the demo, small models and few examples")


def cache() -> Iterator[Finding]:
    """Check the directory of autorank's cache."""
    remedy = "Set AUTORANK_CACHE to another directory."
    try:
        path = cache_files.folder()
    except AutorankError as error:
        yield Finding("cache", "problem", str(error), remedy)
    else:
        yield from folder("cache", path, remedy)


def folder(subject: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """Check that a directory, or its nearest existing parent, can be written and has free space.

    Args:
        subject: The name in the report.
        folder: The directory.
        remedy: How to choose another directory.

    Yields:
        The result of the check.
    """
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"?")
    except OSError as error:
        yield Finding(subject, "problem", f"cannot write to {folder}: {error.strerror or error}", remedy)
        return
    free = shutil.disk_usage(existing).free
    state: State = "problem" if free < MIN_FREE else "note" if free < LOW_FREE else "ok"
    yield Finding(
        subject, state, f"{folder}, {size(free)} free", "" if state == "ok" else f"Free some disk space. {remedy}"
    )


def _memory() -> float:
    """Bytes of memory of the machine, or the limit of its container."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(file).read_text()))
        except (OSError, ValueError):  # no such file, or no limit
            continue
    return min(limits)
