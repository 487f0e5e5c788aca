"""PRILoRA: ranks that rise linearly from layer to layer, and an A that is pruned throughout training.

Benedek and Wolf 2024, "PRILoRA: Pruned and Rank-Increasing Low-Rank Adaptation" (arXiv 2401.11316, Findings of
EACL 2024). The full text and the code (an attachment in the ACL Anthology) were not available. The method is known from
the abstract and from a summary of the full text, marked "summary" below. Everything else is ours, and every constant is
a setting. No result of the paper is quoted anywhere.

  1. All matrices of layer l of L have the rank r_l = mean · (1 + slope · (2(l-1)/(L-1) - 1)): ranks from 4 to 12
     (summary) are mean 8, slope 0.5. Ranks are rounded so that the total is exact. A layer of rank 0 has no update.
  2. n_j is the L2 norm (summary) of input feature j over the tokens of a step, without padding, before dropout, divided
     by the square root of the number of tokens (ours). n̄ ← ema · n̄ + (1 - ema) · n, starting with the first n.
  3. Every `interval` steps the fraction `pruning` (0.5 for most tasks, 0.75 for STS-B: summary) of A's entries with the
     lowest |A_ij| · n̄_j is set to zero: of each row, of each matrix, or of all matrices. Pruned entries can grow again
     until the next pruning (`regrow`). Regrown entries exist only in training: they are zero in evaluations, counts and
     the exported adapter.

Ablations of the paper (summary, without numbers): falling ranks (`slope` -0.5), equal ranks (0), the same total in few
layers (`last_layers`), random pruning (`importance: random`), and pruning B instead of A, or both (`pruned`; the input
of B is A x). All were worse than the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.forward.gradient_checkpointing import recomputing
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.position_queries import TokenInputs
from autorank.modeling.target_modules import block, features, shapes
from autorank.run_context import RunContext
from autorank.tasks.data.batches import token_mask
from trainables.configs import AllLinearConfig
from trainables.lora import new_update


class PRILoRAConfig(AllLinearConfig):
    """PRILoRA's settings."""

    mean_rank: float = Field(8.0, gt=0, description="rank, averaged over the layers")
    slope: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="distance of the last layer's rank above the mean, and of the first layer's below it, in means",
    )
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    pruning: float = Field(0.5, ge=0, lt=1, description="fraction of A that is pruned")
    pruned: Literal["A", "B", "both"] = Field("A", description="ablation: the factors that are pruned")
    importance: Literal["input", "random"] = Field(
        "input", description="ablation: prune at random instead of by magnitude and input norm"
    )
    last_layers: int | None = Field(
        None, ge=1, description="ablation: number of last layers that get the whole budget; none: all layers"
    )
    interval: int = Field(40, ge=1, description="steps between prunings")
    ema: float = Field(0.9, ge=0, lt=1, description="decay of the moving average of input norms")
    scope: Literal["row", "matrix", "global"] = Field(
        "row", description="group of entries of which the lowest fraction is pruned; global: all matrices"
    )
    regrow: bool = Field(True, description="let pruned entries grow again until the next pruning")


class PRILoRA(AllocationMethod[PRILoRAConfig]):
    """LoRA whose ranks rise with depth and whose A is sparse."""

    name = "prilora"
    summary = "Ranks rise linearly from layer to layer, and A is pruned throughout training"
    source = "Benedek and Wolf 2024, arXiv 2401.11316"
    Config: ClassVar[type[PRILoRAConfig]] = PRILoRAConfig

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        if self.config.pruning and self.config.interval > total_steps:
            raise AutorankError(
                f"prilora would never prune: its interval of {self.config.interval} steps is longer than the run, "
                f"{total_steps} steps. Train longer, or lower interval."
            )

    @override
    def prepare(self, run: RunContext) -> None:
        for name, rank in ranks(run.layers, self.config).items():
            if rank:
                update = new_update(features(run.layers[name]), rank, self.config.alpha, run)
                attach(run.model, name, update, self.config.dropout)
        self._begin(run)

    def _begin(self, run: RunContext) -> None:
        """Set up what the hooks need, once the updates are attached."""
        layers = adapted(run.model)
        pruned = ("A", "B") if self.config.pruned == "both" else (self.config.pruned,)
        self._updates = [layer.update for layer in layers.values()]
        self._factors = [(update, factor) for factor in pruned for update in self._updates]
        self._widths = [getattr(update, factor).shape[1] for update, factor in self._factors]
        # sums of squares of all features, and the numbers of tokens of all factors; almost 0: not to divide by 0
        total, factors = sum(self._widths), len(self._factors)
        self._zeros = torch.cat([torch.zeros(total), torch.full((factors,), 1e-30)]).to(run.device)
        self._sums = self._zeros.clone()
        # for each feature the index of its factor's number of tokens
        self._counts = torch.from_numpy(np.repeat(total + np.arange(factors), self._widths)).to(run.device)
        self._norms: Tensor | None = None  # n̄ of all features; None before the first step
        self._prunings = 0
        self._seen: tuple[Tensor, Tensor] | None = None
        self._batch: Mapping[str, Tensor] | None = None  # of the current forward pass; None: it does not count
        self._masks: dict[torch.Size, tuple[Tensor, Tensor]] = {}  # its tokens by shape, and their number
        self._token_inputs = TokenInputs(run.model)
        self._watching = bool(self.config.pruning) and self.config.importance == "input"
        if self._watching:
            *parts, counts = self._sums.split([*self._widths, len(self._factors)])
            for i, name in enumerate(layers):
                squares = dict(zip(pruned, parts[i :: len(layers)], strict=True))
                hook = partial(self._watch, name, squares, counts[i :: len(layers)])
                run.undo.append(layers[name].register_forward_pre_hook(hook).remove)

    @override
    def before_forward(self, run: RunContext) -> None:
        if not self._watching:
            return
        if run.micro_batch == 0:
            self._sums.copy_(self._zeros)
        # a worker without examples repeats one, which does not count
        self._batch = run.batch if run.micro_batches else None
        self._masks.clear()
        self._token_inputs.begin()

    @torch.no_grad()
    def _watch(
        self, name: str, squares: dict[str, Tensor], counts: Tensor, layer: AdaptedLinear, inputs: tuple[Tensor]
    ) -> None:
        """Add the squared inputs of A (... x in) and B, and the number of tokens."""
        x = inputs[0]
        if self._batch is None or not layer.training or recomputing() or not self._token_inputs.next_is_tokens(name):
            return
        with torch.autocast(x.device.type, enabled=False):  # sums of squares are too large for 16 bits
            if x.shape[:-1] not in self._masks:
                tokens = token_mask(self._batch, x.shape[:-1]).flatten().float()
                self._masks[x.shape[:-1]] = tokens, tokens.sum()
            tokens, count = self._masks[x.shape[:-1]]
            counts += count
            if "A" in squares:
                if self._seen is None or self._seen[0] is not x:  # query, key and value have the same input
                    self._seen = x, x.flatten(0, -2).float().square().t() @ tokens
                squares["A"] += self._seen[1]
            if "B" in squares:
                squares["B"] += (x.flatten(0, -2).float() @ layer.update.A.t()).square().t() @ tokens

    @override
    def before_step(self, run: RunContext) -> None:
        """Update the moving average of each input feature's norm."""
        self._seen = self._batch = None
        if not self._watching:
            return
        norms = self._norms_of(run.sum(self._sums))
        self._norms = norms if self._norms is None else self._norms.lerp_(norms, 1 - self.config.ema)

    def _norms_of(self, sums: Tensor) -> Tensor:
        """The norms n of all features."""
        norms: Tensor = (sums[: len(self._counts)] / sums[self._counts]).sqrt()
        return norms

    @override
    def after_step(self, run: RunContext) -> None:
        if not self.config.pruning:
            return
        due = (run.step + 1) // self.config.interval
        if due > self._prunings:
            self._choose(run)
            self._prune()
        elif due and not self.config.regrow:
            self._prune()
        self._prunings = due

    @torch.no_grad()
    def _choose(self, run: RunContext) -> None:
        """Choose the entries that are not pruned."""
        values = [getattr(update, factor) for update, factor in self._factors]
        if self._norms is None:
            importance = [torch.rand(value.shape, generator=run.generator).to(value) for value in values]
        else:
            norms = self._norms.split(self._widths)
            importance = [value.abs() * norm for value, norm in zip(values, norms, strict=True)]
        for (update, factor), mask in zip(self._factors, masks(importance, self.config), strict=True):
            setattr(update, f"mask_{factor}", mask.to(update.A.dtype))

    @torch.no_grad()
    def _prune(self) -> None:
        pairs = [(getattr(update, factor), getattr(update, f"mask_{factor}")) for update, factor in self._factors]
        pruned = [pair for pair in pairs if pair[1] is not None]
        torch._foreach_mul_([value for value, _ in pruned], [mask for _, mask in pruned])

    @override
    def state_dict(self) -> dict[str, Any]:
        chosen = [getattr(update, f"mask_{factor}") for update, factor in self._factors]
        return {
            "norms": None if self._norms is None else self._norms.clone(),
            "prunings": self._prunings,
            "masks": [None if mask is None else mask.clone() for mask in chosen],
        }

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run)
        self._norms = None if state["norms"] is None else state["norms"].to(run.device).clone()
        self._prunings = state["prunings"]
        for (update, factor), mask in zip(self._factors, state["masks"], strict=True):
            setattr(update, f"mask_{factor}", None if mask is None else mask.to(run.device).clone())

    @classmethod
    @override
    def adapter_params(cls, config: PRILoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ r_l (in + out), pruned entries included."""
        sizes = shapes(model, config.targets)
        total = sum(rank * sum(sizes[name]) for name, rank in ranks(sizes, config).items())
        return total, total


def ranks(layers: Iterable[str], config: PRILoRAConfig) -> dict[str, int]:
    """Compute the rank of each matrix; all matrices of a layer have the same rank.

    Args:
        layers: Names of the matrices, in the model's order.
        config: The settings.

    Returns:
        Name of a matrix -> its rank.

    Raises:
        AutorankError: All ranks would be 0.
    """
    owners = {name: block(name) for name in layers}
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners.values()))}
    last = min(config.last_layers or len(numbers), len(numbers))
    rising = [0] * (len(numbers) - last) + linear(last, config.mean_rank * len(numbers) / last, config.slope)
    if not any(rising):
        raise AutorankError(f"prilora: with mean_rank {config.mean_rank:g} all ranks are 0. Raise mean_rank.")
    return {name: rising[numbers[owner]] for name, owner in owners.items()}


def linear(layers: int, mean: float, slope: float) -> list[int]:
    """Round ranks on a line to integers with the exact total, layers · mean (rounded, halves up).

    Args:
        layers: Number of layers.
        mean: The mean rank.
        slope: See `PRILoRAConfig.slope`.

    Returns:
        The rank of each layer.
    """
    exact = [mean * (1 + slope * (2 * i / (layers - 1) - 1 if layers > 1 else 0)) for i in range(layers)]
    rounded = [math.floor(rank + 0.5) for rank in exact]
    missing = math.floor(layers * mean + 0.5) - sum(rounded)
    step = 1 if missing > 0 else -1
    # largest remainder first; a rank of 0 cannot fall
    order = sorted(range(layers), key=lambda i: -step * (exact[i] - rounded[i]))
    for i in [i for i in order if rounded[i] + step >= 0][: abs(missing)]:
        rounded[i] += step
    return rounded


def masks(importance: Sequence[Tensor], config: PRILoRAConfig) -> list[Tensor]:
    """Choose the entries that stay.

    Args:
        importance: Importance of each factor's entries, rank x in for A, out x rank for B.
        config: The settings.

    Returns:
        Bool masks of the same shapes: False for the lowest fraction of each group (`scope`).
    """
    if config.scope == "row":
        return [_highest(values, config.pruning) for values in importance]
    if config.scope == "matrix":
        return [_highest(values.flatten(), config.pruning).view_as(values) for values in importance]
    together = _highest(torch.cat([values.flatten() for values in importance]), config.pruning)
    parts = together.split([values.numel() for values in importance])
    return [part.view_as(values) for part, values in zip(parts, importance, strict=True)]


def _highest(values: Tensor, pruning: float) -> Tensor:
    """True except for the ⌊pruning · n⌋ lowest entries along the last dimension."""
    lowest = values.topk(int(pruning * values.shape[-1] + 1e-9), dim=-1, largest=False).indices
    return torch.ones_like(values, dtype=torch.bool).scatter_(-1, lowest, False)
