"""AdamW in which each component of a low-rank factor has its own schedule start, for ranks that grow in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling.devices import exact_dtype
from autorank.modeling.layers.batched_factors import BatchedFactors
from autorank.run_context import FROZEN

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class _Factor:
    """A Parameter whose components are along dimension `dim`.

    Attributes:
        state: exp_avg and exp_avg_sq, rank x width; steps (number of updates) and start (schedule start), rank x 1.
        may_freeze: Whether components have been frozen; the host knows it without waiting for `start`.
    """

    name: str
    parameter: nn.Parameter
    dim: int
    weight_decay: float
    state: dict[str, Tensor]
    may_freeze: bool = False

    def rows(self, values: Tensor) -> Tensor:
        """Return a view, rank x width."""
        return values[:, None] if values.dim() == 1 else values.movedim(self.dim, 0)

    def extend(self, start: int) -> None:
        """Add state for components that the parameter has gained."""
        rank, width = self.rows(self.parameter.data).shape
        fresh = _fresh(rank - len(self.state["steps"]), width, start, self.parameter.device)
        self.state = {key: torch.cat([self.state[key], value]) for key, value in fresh.items()}
        self.may_freeze |= start >= FROZEN


def _fresh(rank: int, width: int, start: int, device: torch.device) -> dict[str, Tensor]:
    state = {moment: torch.zeros(rank, width, device=device) for moment in MOMENTS}
    state["steps"] = torch.zeros(rank, 1, dtype=torch.int64, device=device)
    state["start"] = torch.full((rank, 1), start, dtype=torch.int64, device=device)
    return state


class ComponentwiseAdamW:
    """AdamW (torch's formulas) for factors whose components start training in different steps.

    Bias is corrected by each component's own number of updates. The learning rate of a component is
    `rate(step, start)`. A frozen component has no gradient, no moments and no weight decay.

    All components of equal width are updated by one set of kernels, whatever the number of layers.

    Args:
        rate: (step, starts as an integer tensor) -> learning rates of the same shape.
    """

    def __init__(self, rate: Callable[[int, Tensor], Tensor]) -> None:
        self._rate = rate
        self.epsilon_before_correction = False  # see `GroupedAdamW`
        self._factors: dict[nn.Parameter, _Factor] = {}
        self._stacks: BatchedFactors | None = None  # None: must be stacked again
        self._stacked: dict[str, list[Tensor]] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups as in torch's optimizers, for GradScaler."""
        return [{"params": list(self._factors)}]

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained factors."""
        return iter(self._factors)

    def __contains__(self, parameter: nn.Parameter) -> bool:
        return parameter in self._factors

    def add(self, name: str, parameter: nn.Parameter, dim: int, weight_decay: float, start: int = 0) -> None:
        """Train a factor.

        Args:
            name: Name of the parameter.
            parameter: The factor.
            dim: Dimension of its components.
            weight_decay: Weight decay.
            start: Schedule start of all components, a step.
        """
        factor = self._factors[parameter] = _Factor(name, parameter, dim, weight_decay, {}, start >= FROZEN)
        rank, width = factor.rows(parameter.data).shape
        factor.state = _fresh(rank, width, start, parameter.device)
        self._stacks = None

    def grow(self, parameter: nn.Parameter, start: int) -> None:
        """Follow a parameter that has gained components; their schedules start at `start`."""
        self._factors[parameter].extend(start)
        self._stacks = None

    def keep(self, parameter: nn.Parameter, index: Tensor) -> None:
        """Follow a parameter of which only the components `index` are left."""
        factor = self._factors[parameter]
        factor.state = {key: value[index.to(value.device)] for key, value in factor.state.items()}
        self._stacks = None

    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        """Set the schedule start of components.

        Args:
            parameter: A factor.
            index: Indices of the components.
            start: A step, or `FROZEN`, which stops their training.
        """
        factor = self._factors[parameter]
        factor.state["start"] = factor.state["start"].index_fill(0, index.to(parameter.device), start)
        factor.may_freeze |= start >= FROZEN
        self._stacks = None

    @torch.no_grad()
    def drop_frozen_gradients(self) -> None:
        """Set the gradients of frozen components to zero, before gradients are clipped or scored."""
        self._restack()
        pairs = [(p.grad, mask) for p, mask in self._masks if p.grad is not None]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [mask for _, mask in pairs])

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Update the weights; `step` is the number of previous steps."""
        if not self._factors:
            return
        self._restack()
        assert self._stacks is not None
        factors = list(self._factors.values())
        gradients = self._stacks.stack([self._gradient(factor) for factor in factors])
        weights = self._stacks.stack([factor.rows(factor.parameter.data) for factor in factors])
        moves = []
        for i, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            m, v, steps, start, decay = (self._stacked[key][i] for key in (*MOMENTS, "steps", "start", "decay"))
            rate = self._rate(step, start)
            steps += start < FROZEN
            count = steps.clamp_min(1).to(decay)
            m.lerp_(g, 1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            correction = (1 - BETA2**count).sqrt().float()
            epsilon = EPSILON / correction if self.epsilon_before_correction else EPSILON
            scale = v.sqrt().div_(correction).add_(epsilon)
            move = m.div(scale).mul_((-rate / (1 - BETA1**count)).float())
            moves.append(move.addcmul_(w, (-rate * decay).float()))
        views = [factor.rows(factor.parameter.data) for factor in factors]
        torch._foreach_add_(views, self._stacks.split(moves))

    @staticmethod
    def _gradient(factor: _Factor) -> Tensor:
        if factor.parameter.grad is None:
            return factor.rows(torch.zeros_like(factor.parameter))
        return factor.rows(factor.parameter.grad)

    def _restack(self) -> None:
        """Stack the state of all factors; the state of each factor becomes a view of the stacks."""
        if self._stacks is not None:
            return
        factors = list(self._factors.values())
        shapes = [f.state["exp_avg"].shape for f in factors]
        self._stacks = BatchedFactors([(rank, width) for rank, width in shapes])
        for key in (*MOMENTS, "steps", "start"):
            self._stacked[key] = self._stacks.stack([f.state[key] for f in factors])
            for factor, part in zip(factors, self._stacks.split(self._stacked[key]), strict=True):
                factor.state[key] = part
        self._stacked["decay"] = self._stacks.stack(
            [torch.full_like(f.state["start"], f.weight_decay, dtype=exact_dtype(f.parameter.device)) for f in factors]
        )
        self._masks = []
        for factor in factors:
            if factor.may_freeze:
                shape = [1] * factor.parameter.dim()
                shape[factor.dim] = -1
                trained = factor.state["start"].flatten() < FROZEN
                self._masks.append((factor.parameter, trained.float().view(shape)))

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of each factor, with its name."""
        return [
            {"name": f.name, "dim": f.dim, "weight_decay": f.weight_decay}
            | {"state": {key: value.clone() for key, value in f.state.items()}}
            for f in self._factors.values()
        ]

    def load_state_dict(self, state: list[dict[str, Any]], parameters: Mapping[str, nn.Parameter]) -> None:
        """Restore `state` for parameters given by name."""
        self._factors, self._stacks = {}, None
        for saved in state:
            parameter = parameters[saved["name"]]
            values = {key: value.to(parameter.device).clone() for key, value in saved["state"].items()}
            frozen = bool((values["start"] >= FROZEN).any())
            self._factors[parameter] = _Factor(
                saved["name"], parameter, saved["dim"], saved["weight_decay"], values, frozen
            )
