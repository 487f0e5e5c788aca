"""Training on a CUDA device that computes nothing: which kernels a step launches and whether it waits for the GPU.

torch's FakeTensorMode tracks shapes, data types and devices of tensors without computing them. On a CPU build of
torch, `device.cpp` supplies the device that autograd expects; it is compiled in a second or two. So an operation with
tensors on different devices, autocast's conversions and transfers to the host show up without a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import multiprocessing
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("device.cpp")
IMPORTED = (  # once, before processes fork
    "torch._dynamo",
    "transformers.models.bert.modeling_bert",
    "transformers.models.deberta_v2.modeling_deberta_v2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.roberta.modeling_roberta",
    "benchmarks.speed.contenders",
    "benchmarks.gpu.workload",
    "benchmarks.fake_cuda.recorder",
    "autorank.training.packing.pack",
)


def load() -> None:
    """Load the device, and import the modules that forked processes need. Call it before torch is imported.

    Raises:
        RuntimeError: torch is imported already, the system is not Linux, or there is no C++ compiler.
    """
    if "torch" in sys.modules:
        raise RuntimeError("load the fake CUDA device before torch is imported")
    if sys.platform != "linux":
        raise RuntimeError("the fake CUDA device needs Linux")
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("the fake CUDA device needs torch")
    torch = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "device.so"
        command = ["c++", "-std=c++20", "-shared", "-fPIC", f"-I{torch / 'include'}", str(SOURCE), "-o", str(library)]
        try:
            subprocess.run(
                [*command, f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"], check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"the fake CUDA device needs a C++ compiler: {error}") from error
        for name in ("libc10.so", "libtorch_cpu.so"):
            ctypes.CDLL(str(torch / "lib" / name), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    for module in IMPORTED:
        importlib.import_module(module)


def call_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a forked process, so that functions do not change the environment of each other.

    Args:
        function: The function.
        arguments: Its arguments.

    Returns:
        Its result.

    Raises:
        RuntimeError: The function raised (the message is its traceback), or its process ended.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        succeeded, result = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__}{arguments} ended with exit code {process.exitcode}") from None
    process.join()
    if not succeeded:
        raise RuntimeError(result)
    return result


def _send(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((True, function(*arguments)))
    except Exception:
        sender.send((False, traceback.format_exc()))
