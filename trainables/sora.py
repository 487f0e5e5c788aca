"""SoRA: LoRA with a gate on every component; gates that a proximal step puts to zero drop their component.

Ding et al. 2023, "Sparse Low-rank Adaptation of Pre-trained Language Models" (arXiv 2311.11696, EMNLP 2023), with its
published code (TsinghuaC3I/SoRA).

  1. ΔW = alpha / rank · B diag(g) A: A Kaiming-uniform, B zero, g ~ N(0, 1). The scale stays as gates vanish.
  2. The loss gains sparse_lambda · mean |g| over all gates.
  3. Gates have an AdamW group of their own, without weight decay. After each step all of them shrink towards zero by
     the threshold ξ (not times the learning rate), and those within ξ of zero become zero (eq. 7).
  4. With a `schedule` training goes on over further thresholds, from the weights that the one before has left
     (algorithm 1).

A zero gate may come back, for it has a gradient still, so its component is held until the end of training; but it is in
no count, evaluation or exported adapter.

Differs from the published code:

  - Gates within ξ of zero become zero, as in eq. 7. The code zeroes what is below ξ after shrinking, that is all within
    2ξ of zero.
  - The thresholds of a schedule share a run and its learning-rate curve. The code trains 50 epochs, then 15 for each
    threshold, at a learning rate that has fallen to zero.
  - Normalisation layers are trained only if `layer_norms` is set, so that what is counted is what the gates have left,
    and fronts compare with those of methods that freeze them. The code trains them.
  - Gradients are clipped as in every run here; the scripts clip at 0.1, with weight decay 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import block, features, shapes
from autorank.run_context import RunContext
from trainables.lora import UniformConfig, new_update


class SoRAConfig(UniformConfig):
    """SoRA's settings; LoRA's are among them. Defaults are the published script's without a schedule."""

    targets: str = Field("all-linear", description="adapted layers: attention-qv, attention, ffn, all-linear or names")
    rank: int = Field(8, ge=1, description="rank of every update before any gate is zero (r_max)")
    sparse_lambda: float = Field(10.0, ge=0, description="weight of the gates' mean magnitude in the loss")
    threshold: float = Field(3e-4, ge=0, description="ξ: by how much gates shrink at a step")
    schedule: tuple[float, ...] = Field((), description="thresholds that follow; published: 6, up to 7e-4, from 0")
    first: float = Field(
        0.35, gt=0, lt=1, description="part of the run with the first threshold if more follow (published: 50 of 140)"
    )
    layer_norms: bool = Field(False, description="train normalisation layers too (published code)")


class SoRA(AllocationMethod[SoRAConfig]):
    """LoRA whose components are gated, and dropped by a proximal step."""

    name = "sora"
    summary = "Gates on LoRA's components, put to zero by a proximal step"
    source = "Ding et al. 2023, arXiv 2311.11696"
    Config: ClassVar[type[SoRAConfig]] = SoRAConfig

    def check_length(self, layers: int, total_steps: int) -> None:
        if len(self.config.schedule) > total_steps - self._first_steps(total_steps):
            raise AutorankError(
                f"sora's schedule has {len(self.config.schedule)} thresholds for what is left of {total_steps} "
                f"steps after the first part ({self.config.first:g}). Train longer, or shorten schedule."
            )

    def prepare(self, run: RunContext) -> None:
        gates = {}
        for name, layer in run.layers.items():
            plain = new_update(features(layer), self.config.rank, self.config.alpha, run)
            gate = nn.Parameter(torch.randn(self.config.rank, generator=run.generator).to(run.device))
            attach(run.model, name, LowRankUpdate(plain.A, plain.B, plain.scale, gate), self.config.dropout)
            gates[f"{name}.update.e"] = gate
        run.optimizer.add_group(gates, weight_decay=0.0)
        if self.config.layer_norms:
            run.base.unfreeze(normalisations(run.model))
        self._begin(run)

    def _begin(self, run: RunContext) -> None:
        """What the hooks work with; the model's updates are there already."""
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._gates: list[Tensor] = [update.e for update in self._updates if update.e is not None]

    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.sparse_lambda * torch.cat(self._gates).abs().mean() if self.config.sparse_lambda else None

    @torch.no_grad()
    def after_step(self, run: RunContext) -> None:
        gates = torch.cat(self._gates)
        shrunk = gates.sign() * (gates.abs() - self._threshold(run)).clamp_min(0)
        lengths = [len(gate) for gate in self._gates]
        for gate, values in zip(self._gates, shrunk.split(lengths), strict=True):
            gate.copy_(values)
        for update, active in zip(self._updates, (shrunk != 0).split(lengths), strict=True):
            update.active = active

    def _first_steps(self, total_steps: int) -> int:
        return max(1, int(self.config.first * total_steps)) if self.config.schedule else total_steps

    def _threshold(self, run: RunContext) -> float:
        """ξ of the step at hand."""
        first, schedule = self._first_steps(run.total_steps), self.config.schedule
        done = run.step - first
        if done < 0:
            return self.config.threshold
        return schedule[done * len(schedule) // (run.total_steps - first)]

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run)

    @classmethod
    def adapter_params(cls, config: SoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Nothing if all gates are zero, Σ rank (in + out) if none is; normalisation layers come on top."""
        norms = sum(model.get_parameter(name).numel() for name in normalisations(model)) if config.layer_norms else 0
        return norms, norms + config.rank * sum(map(sum, shapes(model, config.targets).values()))


def normalisations(model: nn.Module) -> Iterator[str]:
    """Parameters of the normalisation layers (LayerNorm, RMSNorm, ...) inside a model's numbered blocks."""
    for name, module in model.named_modules():
        if "norm" in type(module).__name__.lower() and block(f"{name}."):
            yield from (f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False))
