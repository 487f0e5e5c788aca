"""AdamW whose parameter groups, or components, each run their own schedule, and follow adapters that change rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autorank.run_context import CONSTANT
from autorank.training.componentwise_adamw import BETA2, EPSILON, MOMENTS, ComponentwiseAdamW


def undecayed(name: str) -> bool:
    """Whether a parameter is left out of weight decay, as is usual: biases and normalisations."""
    return name.endswith("bias") or "norm" in name.lower()


class GroupedAdamW:
    """AdamW over named parameter groups with a schedule a group.

    A group that starts at step t rises over `warmup_steps` to the peak, then falls on a line to zero at
    `total_steps`, so that all groups end together. (torch's LambdaLR cannot take a group that is added later.)
    Ordinary parameters are torch's fused AdamW's; factors whose components have schedule starts of their own are
    `ComponentwiseAdamW`'s.

    Args:
        learning_rate: the peak.
        fused: one kernel for all parameters; equal results, faster.
    """

    def __init__(
        self, learning_rate: float, weight_decay: float, total_steps: int, warmup_steps: int, fused: bool = True
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self._fused = fused
        self._adamw: torch.optim.AdamW | None = None
        self._rowwise = ComponentwiseAdamW(lambda step, start: self.learning_rate * self.factor(step, start))

    def add_epsilon_before_correction(self) -> None:
        """Add ε to the root of the second moment before its bias is corrected, as transformers' former AdamW did."""
        self._rowwise.epsilon_before_correction = True

    @property
    def groups(self) -> list[dict[str, Any]]:
        return [] if self._adamw is None else self._adamw.param_groups

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        for group in self.groups:
            yield from group["params"]
        yield from self._rowwise.parameters

    def add_group(
        self, parameters: Mapping[str, nn.Parameter], start: int = 0, weight_decay: float | None = None
    ) -> None:
        """Train these from step `start` on. `weight_decay` None: the run's."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        for skip in (False, True):
            chosen = {name: p for name, p in parameters.items() if undecayed(name) == skip}
            if chosen:
                self._add(chosen, start, 0.0 if skip else decay)

    def _add(self, parameters: Mapping[str, nn.Parameter], start: int, weight_decay: float) -> None:
        group = {
            "params": list(parameters.values()), "names": list(parameters), "start": start,
            "weight_decay": weight_decay, "lr": self.learning_rate,
        }  # fmt: skip
        if self._adamw is None:
            self._adamw = torch.optim.AdamW([group], fused=self._fused)
        else:
            self._adamw.add_param_group(group)

    def add_components(self, name: str, parameter: nn.Parameter, dim: int) -> None:
        """Train a factor whose components, along `dim`, each have a schedule start, at first step 0."""
        self._rowwise.add(name, parameter, dim, 0.0 if undecayed(name) else self.weight_decay)

    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        """Set the schedule start of these components of a factor: a step, `CONSTANT` or `FROZEN`."""
        self._rowwise.set_schedule_start(parameter, index, start)

    def factor(self, step: int, start: Tensor) -> Tensor:
        """Part of the peak learning rate that groups or components of these starts have at this step."""
        rising = (step - start) / max(1, self.warmup_steps)
        falling = (self.total_steps - step) / (self.total_steps - start - self.warmup_steps).clamp_min(1)
        part = torch.where(step - start < self.warmup_steps, rising, falling).clamp_min(0)
        return part.masked_fill(start == CONSTANT, 1.0)

    def step(self, step: int) -> None:
        """Move the weights; `step` is the number of steps done before."""
        assert next(self.parameters, None) is not None, "the optimizer has no parameters"
        for group in self.groups:
            group["lr"] = self.learning_rate * float(self.factor(step, torch.tensor(group["start"])))
            if self._rowwise.epsilon_before_correction:
                group["eps"] = EPSILON / math.sqrt(1 - BETA2 ** (step - group["start"] + 1))
        if self._adamw is not None:  # a model without a head may have nothing but components
            self._adamw.step()
        self._rowwise.step(step)

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Gradients in their true size, none where nothing is trained; needed before they are clipped."""
        if self._adamw is not None:
            scaler.unscale_(self._adamw)
        if next(self._rowwise.parameters, None) is not None:
            scaler.unscale_(self._rowwise)  # type: ignore[arg-type]
            self._rowwise.silence()

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        """The parameter was shrunk to `index` along `dim`: shrink its moments alike."""
        if parameter in self._rowwise:
            self._rowwise.keep(parameter, index)
            return
        state = self._state(parameter)
        for moment in MOMENTS:
            if moment in state:
                state[moment] = state[moment].index_select(dim, index.to(state[moment].device))

    @torch.no_grad()
    def combine(self, parameter: nn.Parameter, coefficients: Tensor, dim: int) -> None:
        """Combine a parameter's moments as the gradients of its components are now combined.

        First moments linearly, which is exact; second moments by the squares of the coefficients, which is exact where
        the gradients of the old components are uncorrelated (ours).

        Args:
            parameter: a factor without clocks.
            coefficients: new x old components.
            dim: the dimension along which its components lie.
        """
        state = self._state(parameter)
        for moment, weights in zip(MOMENTS, (coefficients, coefficients.square()), strict=True):
            if moment in state:
                old = state[moment].movedim(dim, 0)
                state[moment] = (weights.to(old) @ old).movedim(0, dim).contiguous()

    def grow(self, parameter: nn.Parameter, start: int) -> None:
        """A factor has gained components: their moments are zero, their schedules start at `start`."""
        self._rowwise.grow(parameter, start)

    def _state(self, parameter: nn.Parameter) -> dict[str, Any]:
        assert self._adamw is not None
        state: dict[str, Any] = self._adamw.state.get(parameter, {})
        return state

    def state_dict(self) -> dict[str, Any]:
        """Groups by parameter name, and each parameter's moments."""
        return {
            "groups": [{key: group[key] for key in ("names", "start", "weight_decay")} for group in self.groups],
            "moments": {
                name: {key: value.clone() for key, value in self._state(parameter).items()}
                for group in self.groups
                for name, parameter in zip(group["names"], group["params"], strict=True)
            },
            "rowwise": self._rowwise.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
        """Groups and moments of `state` for a new optimizer over these named parameters."""
        self._adamw = None
        for group in state["groups"]:
            chosen = {name: parameters[name] for name in group["names"]}
            self._add(chosen, group["start"], group["weight_decay"])
        for name, moments in state["moments"].items():
            assert self._adamw is not None
            parameter = parameters[name]
            self._adamw.state[parameter] = {key: value.to(parameter.device).clone() for key, value in moments.items()}
        self._rowwise.load_state_dict(state["rowwise"], parameters)
