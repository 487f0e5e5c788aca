"""Loads the code of IncreLoRA's, AdaLoRA's and GoRA's authors from clones of their repositories.

This file contains none of that code. It replaces what the code needs of former versions of other packages: a debugger,
the argument `verbose` of torch's LambdaLR, and other modules of the trainer.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorank.errors import AutorankError

TRAINER = "NLU/src/transformers"


def layers_code(repository: Path) -> Any:
    """Import the repository's package `loralib`, under a unique name, because two repositories have one."""
    sys.modules["ipdb"] = types.ModuleType("ipdb")
    name = f"authors_{repository.name.lower().replace('-', '_')}"
    folder = repository / "loralib" / "loralib"
    if not (folder / "__init__.py").is_file():
        raise AutorankError(f"No package loralib at {folder}. Clone the authors' repository to {repository}.")
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(file: Path, names: list[str], scope: dict[str, Any]) -> dict[str, Any]:
    """Define functions of a file, or of a class in it, without running the rest of the file; returns `scope`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    exec(compile(ast.Module(nodes, type_ignores=[]), str(file), "exec"), scope)
    return scope


def optimization_code(repository: Path) -> Any:
    """Load the module with the trainer's optimizer and schedules."""
    from torch.optim import lr_scheduler
    from transformers.trainer_utils import SchedulerType

    class LambdaLR(lr_scheduler.LambdaLR):
        def __init__(self, optimizer: Any, curve: Any, last_epoch: int = -1, verbose: bool = False) -> None:
            super().__init__(optimizer, curve, last_epoch)

    stubs = {"transformers_": {}, "transformers_.trainer_utils": {"SchedulerType": SchedulerType}}
    stubs["transformers_.utils"] = {"logging": types.SimpleNamespace(get_logger=lambda name: None)}
    for name, members in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    module = types.ModuleType("transformers_.optimization")
    module.__package__ = "transformers_"
    original, lr_scheduler.LambdaLR = lr_scheduler.LambdaLR, LambdaLR  # type: ignore[misc]
    try:
        source = (repository / TRAINER / "optimization.py").read_text(encoding="utf-8")
        exec(compile(source, "optimization.py", "exec"), vars(module))
    finally:
        lr_scheduler.LambdaLR = original  # type: ignore[misc]
    return module


def authors_gora_ranks(repository: Path, layers: dict[str, tuple[Tensor, Tensor]], rank: int) -> dict[str, int]:
    """The ranks by GoRA's published code for layers with these weights and gradients, with the paper's settings."""

    class LinearWithGoRA(nn.Linear):
        pass

    model = nn.Module()
    for name, (weight, gradient) in layers.items():
        layer: Any = LinearWithGoRA(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.weight.grad_stored, layer.weight.iters = weight, gradient, 1
        model.add_module(name, layer)
    scope = {"torch": torch, "math": math, "OrderedDict": OrderedDict, "Callable": Callable, "Tensor": Tensor}
    scope |= {"LinearWithGoRA": LinearWithGoRA, "print_rank_0": lambda *_: None}
    names = ["compute_importance", "get_normalized_importances", "get_allocated_rank"]
    code = functions(repository / "common" / "lora_modules" / "gora.py", names, scope)
    arguments = types.SimpleNamespace(
        gora_allocate_stretagy="moderate", gora_features_func="sqrt", gora_scale_importance=False, world_size=1,
        gora_importance_type="union_mean", gora_softmax_importance=False, lora_rank=rank, gora_min_rank=rank // 2,
        gora_max_rank=4 * rank, global_rank=0, device="cpu",
    )  # fmt: skip
    ranks: dict[str, int] = code["get_allocated_rank"](model, arguments)[2]
    return {name: int(value) for name, value in ranks.items()}
