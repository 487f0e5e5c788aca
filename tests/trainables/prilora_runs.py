"""Runs of PRILoRA for its tests, on models without dropout."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.architectures import architecture as architecture_of
from tests.trainables import conformance_runs


def write(folder: Path) -> None:
    """Write models without dropout, and data."""
    for architecture in ("bert", "deberta-v2"):
        tiny_models.model(architecture, folder / architecture)
        tiny_models.set_dropout(folder / architecture, 0.0)
    for architecture in ("opt", "albert"):
        architecture_of(architecture).save(folder / architecture)
    tiny_models.pairs_folder(folder / "data", 22, 8)  # 8, 8 and 6 a step


def open_run(
    workspace: Path, settings: dict[str, Any], architecture: str = "bert", data: str = "data", **training: Any
) -> TrainingRun:
    """A run with attached updates, before its first step; it evaluates after every step."""
    train_spec = TrainSpec(
        task=TaskSpec(name="pairs", data=workspace / data, text=("left", "right"), label="label"),
        model=str(workspace / architecture),
        method="prilora",
        settings={"mean_rank": 2, "interval": 4, "learning_rate": 1e-2} | settings,
        training=TrainingSpec(**{"steps": 10, "batch_size": 8, "eval_every": 1, "precision": "fp32"} | training),
    )
    return conformance_runs.open_run(train_spec)


def norms(run: TrainingRun) -> dict[str, Tensor]:
    """n̄ of every layer."""
    layers = adapters.adapted(run._base.model)
    parts = run._method.state_dict()["norms"].split([layer.update.A.shape[1] for layer in layers.values()])
    return dict(zip(layers, parts, strict=True))


class Inputs:
    """Norms of every layer's input features over the tokens of a step, from separate hooks.

    Attributes:
        token_inputs: Layer name -> the input of each token, without padding.
        pending: Layers that the current forward pass has not called yet.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.repeats_blocks = run._base.model.config.model_type == "albert"
        self.layers = adapters.adapted(run._base.model)
        self.token_inputs: dict[str, list[Tensor]] = defaultdict(list)
        run._base.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for name, layer in self.layers.items():
            layer.base.register_forward_pre_hook(lambda module, args, name=name: self._record(name, args[0]))

    def _begin(self, model: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
        self.mask, self.pending = kwargs["attention_mask"].bool(), set(self.layers) if model.training else set()

    def _record(self, name: str, x: Tensor) -> None:
        if name in self.pending:
            if not self.repeats_blocks:  # DeBERTa calls some layers again, with positions
                self.pending.remove(name)
            tokens = x.view(*self.mask.shape, x.shape[-1])  # OPT flattens them
            self.token_inputs[name] += [tokens[i, j].detach() for i, j in self.mask.nonzero().tolist()]

    def norms(self) -> dict[str, Tensor]:
        token_inputs, self.token_inputs = self.token_inputs, defaultdict(list)
        return {name: torch.stack(token_inputs[name]).double().square().mean(0).sqrt() for name in self.layers}
