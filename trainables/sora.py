"""SoRA: LoRA with a gate for each component; a proximal step sets gates to zero, which removes their components.

Ding et al. 2023, "Sparse Low-rank Adaptation of Pre-trained Language Models" (arXiv 2311.11696, EMNLP 2023), with its
published code (TsinghuaC3I/SoRA).

  1. ΔW = alpha / rank · B diag(g) A with A Kaiming-uniform, B zero, g ~ N(0, 1). The scale does not change when gates
     become zero.
  2. sparse_lambda · mean |g| over all gates is added to the loss.
  3. Gates are an AdamW group without weight decay. After each step all gates shrink towards zero by the threshold ξ
     (not multiplied by the learning rate); gates within ξ of zero become zero (eq. 7).
  4. With a `schedule` training continues with further thresholds, each from the weights of the previous one
     (algorithm 1).

A gate that is zero still has a gradient and can return, so its component is stored until the end of training. It takes
no part in counts, evaluations and exported adapters.

Differs from the published code:

  - Gates within ξ of zero become zero, as in eq. 7. The code sets gates to zero that are below ξ after shrinking, which
    are all gates within 2ξ of zero.
  - All thresholds of a schedule share one run and its learning-rate schedule. The code trains 50 epochs, then 15 per
    threshold, with a learning rate that has fallen to zero.
  - Normalization layers are trained only if `layer_norms` is set, so the parameter count depends on the gates alone and
    fronts can be compared with those of methods that freeze these layers. The code trains them.
  - Gradients are clipped as in all runs of autorank. The scripts clip at 0.1, with weight decay 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import block, features, shapes
from autorank.run_context import RunContext
from trainables.configs import AllLinearConfig
from trainables.lora import UniformConfig, new_update


class SoRAConfig(AllLinearConfig, UniformConfig):
    """SoRA's settings, including LoRA's; the defaults are those of the published script without a schedule."""

    rank: int = Field(8, ge=1, description="initial rank of every update (r_max)")
    sparse_lambda: float = Field(10.0, ge=0, description="weight of the mean absolute gate in the loss")
    threshold: float = Field(3e-4, ge=0, description="ξ, by which gates shrink in each step")
    schedule: tuple[float, ...] = Field((), description="further thresholds (published: 6, from 0 to 7e-4)")
    first: float = Field(
        0.35,
        gt=0,
        lt=1,
        description="fraction of the run with the first threshold if there is a schedule (published: 50 of 140 epochs)",
    )
    layer_norms: bool = Field(False, description="also train normalization layers (published code)")


class SoRA(AllocationMethod[SoRAConfig]):
    """LoRA with gates on its components, which a proximal step sets to zero."""

    name = "sora"
    summary = "Gates on LoRA's components, set to zero by a proximal step"
    source = "Ding et al. 2023, arXiv 2311.11696"
    Config: ClassVar[type[SoRAConfig]] = SoRAConfig

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        if len(self.config.schedule) > total_steps - self._first_steps(total_steps):
            raise AutorankError(
                f"sora's schedule has {len(self.config.schedule)} thresholds, more than the steps after the first part "
                f"({self.config.first:g}) of a run of {total_steps} steps. Train longer, or shorten schedule."
            )

    @override
    def prepare(self, run: RunContext) -> None:
        gates = {}
        for name, layer in run.layers.items():
            plain = new_update(features(layer), self.config.rank, self.config.alpha, run)
            gate = nn.Parameter(torch.randn(self.config.rank, generator=run.generator).to(run.device))
            attach(run.model, name, LowRankUpdate(plain.A, plain.B, plain.scale, gate), self.config.dropout)
            gates[f"{name}.update.e"] = gate
        run.optimizer.add_group(gates, weight_decay=0.0)
        if self.config.layer_norms:
            run.base.unfreeze(normalizations(run.model))
        self._begin(run)

    def _begin(self, run: RunContext) -> None:
        """Set up what the hooks need, once the updates are attached."""
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._gates: list[Tensor] = [update.e for update in self._updates if update.e is not None]

    @override
    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.sparse_lambda * torch.cat(self._gates).abs().mean() if self.config.sparse_lambda else None

    @torch.no_grad()
    @override
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
        """ξ of the current step."""
        first, schedule = self._first_steps(run.total_steps), self.config.schedule
        done = run.step - first
        if done < 0:
            return self.config.threshold
        return schedule[done * len(schedule) // (run.total_steps - first)]

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run)

    @classmethod
    @override
    def adapter_params(cls, config: SoRAConfig, model: nn.Module) -> tuple[int, int]:
        """0 if all gates are zero, Σ rank (in + out) if none is; trained normalization layers are added."""
        norms = sum(model.get_parameter(name).numel() for name in normalizations(model)) if config.layer_norms else 0
        return norms, norms + config.rank * sum(map(sum, shapes(model, config.targets).values()))


def normalizations(model: nn.Module) -> Iterator[str]:
    """Yield the names of parameters of normalization layers (LayerNorm, RMSNorm, ...) in numbered blocks."""
    for name, module in model.named_modules():
        if "norm" in type(module).__name__.lower() and block(f"{name}."):
            yield from (f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False))
