"""SparseAdapter: LoRA whose A and B are masked once, before training, by SNIP scores.

He et al. 2022, "SparseAdapter: An Easy Approach for Improving the Parameter-Efficiency of Adapters" (arXiv 2210.04284,
Findings of EMNLP 2022), applied to LoRA as in its published code (Shwai-He/SparseAdapter). The default sparsity is that
of LoRA-drop's baseline.

  1. A and B are both drawn from N(0, 0.02²) ("bert" in the code), because with LoRA's B = 0 all scores would be zero.
  2. The gradient g of the loss is computed for every entry w of A and B, in evaluation mode, over 10 random training
     examples per class. The score of an entry is |w · g| (SNIP, Lee et al. 2019: how much the loss depends on the mask
     of w).
  3. The fraction `sparsity` of entries with the lowest scores, of A and B of all layers together, is zero from then on,
     in training, evaluations and the exported adapter.

The head is untrained when scores are computed. The update is not zero at the start. `adapter_params` counts all entries
of A and B, since all are stored; `nonzero_params` counts those that are not masked.

Differs from the published code:

  - `sparsity` is the fraction that is zero. In the code it is the fraction that is kept.
  - Ties are broken so that the fraction is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.lora import UniformConfig
from trainables.svd_updates import draw


class SparseAdapterConfig(UniformConfig):
    """SparseAdapter's settings, including LoRA's."""

    sparsity: float = Field(
        0.5, ge=0, lt=1, description="fraction of A's and B's entries that are zero (LoRA-drop's baseline: 0.5)"
    )
    examples: int = Field(10, ge=1, description="examples per class for the scores (published code)")


class SparseAdapter(AllocationMethod[SparseAdapterConfig]):
    """LoRA whose A and B are sparse from the start."""

    name = "sparse-adapter"
    summary = "LoRA whose A and B are masked once, before training"
    source = "He et al. 2022, arXiv 2210.04284"
    Config: ClassVar[type[SparseAdapterConfig]] = SparseAdapterConfig

    @override
    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            A, B = draw(features(layer), self.config.rank, run)
            update = LowRankUpdate(nn.Parameter(A), nn.Parameter(B), self.config.alpha / self.config.rank)
            attach(run.model, name, update, self.config.dropout)
        gradients = run.gradients(sample(run.labels, self.config.examples, run.seed))
        factors = _factors(run)
        scores = [(factor.detach() * gradients[name]).abs() for name, factor in factors.items()]
        self._apply(dict(zip(factors, masks(scores, self.config.sparsity), strict=True)), run)

    @torch.no_grad()
    def _apply(self, kept: dict[str, Tensor], run: RunContext) -> None:
        """Set masked entries to zero permanently: they get no gradient, so no moments, and weight decay keeps zeros."""
        self._kept = kept
        for name, factor in _factors(run).items():
            factor.mul_(kept[name])
            run.undo.append(factor.register_hook(lambda gradient, mask=kept[name]: gradient * mask).remove)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"kept": {name: mask.clone() for name, mask in self._kept.items()}}

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._apply({name: mask.to(run.device) for name, mask in state["kept"].items()}, run)

    @classmethod
    @override
    def adapter_params(cls, config: SparseAdapterConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out), zeros included."""
        total = config.rank * sum(map(sum, shapes(model, config.targets).values()))
        return total, total


def _factors(run: RunContext) -> dict[str, nn.Parameter]:
    """Parameter name -> A or B of all layers."""
    return {
        f"{name}.update.{factor}": getattr(layer.update, factor)
        for name, layer in adapted(run.model).items()
        for factor in ("A", "B")
    }


def sample(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw examples at random, `per_class` times the number of classes of them.

    Args:
        labels: Labels of the training examples; floats for a regression, which counts as one class.
        per_class: Examples per class.
        seed: Random seed.

    Returns:
        Indices of the examples in ascending order.
    """
    classes = 1 if np.issubdtype(labels.dtype, np.floating) else len(np.unique(labels))
    count = min(len(labels), per_class * classes)
    return np.sort(np.random.default_rng(seed).choice(len(labels), count, replace=False))


def masks(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Choose the entries that stay.

    Args:
        scores: Scores of the entries of each factor.
        sparsity: Fraction of entries to mask; if scores are equal, the earlier entry is masked first.

    Returns:
        Bool masks of the same shapes: False for the ⌈sparsity · n⌉ lowest of all n entries.
    """
    together = torch.cat([values.flatten() for values in scores])
    lowest = together.sort(stable=True).indices[: math.ceil(sparsity * len(together) - 1e-9)]
    kept = torch.ones_like(together, dtype=torch.bool).index_fill_(0, lowest, False)
    parts = kept.split([values.numel() for values in scores])
    return [part.view_as(values) for part, values in zip(parts, scores, strict=True)]
