"""AdamW with a learning-rate schedule per parameter group or component, for adapters whose ranks change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from autorank.run_context import CONSTANT, Optimizer
from autorank.training.optimization.componentwise_adamw import BETA2, EPSILON, MOMENTS, ComponentwiseAdamW


def undecayed(name: str) -> bool:
    """Return whether a parameter has no weight decay, as usual for biases and normalization layers.

    DoRA's norms have none either, because decay would shrink the pretrained weights (ours; the authors' scripts use no
    decay).
    The name of the innermost module decides, because all parameters of some models have "norm" in their names.
    """
    *modules, parameter = name.split(".")
    module = next((part.lower() for part in reversed(modules) if not part.isdigit()), "")
    is_norm = "norm" in module or module.startswith("ln") or "norm" in parameter.lower()
    return is_norm or parameter.endswith("bias") or name.endswith(".update.m")


class GroupedAdamW(Optimizer):
    """AdamW with named parameter groups, and with components that have their own learning-rate schedules.

    The learning rate of a component whose schedule starts at step t rises over `warmup_steps` to the peak, then falls
    linearly to zero at `total_steps`, so all schedules end together; that of a group starts at step 0. Groups are
    updated by torch's fused AdamW, and factors whose components have their own schedule starts by `ComponentwiseAdamW`.

    Args:
        learning_rate: The peak learning rate.
        weight_decay: Weight decay, except for biases and normalization layers.
        total_steps: Optimizer steps of the run.
        warmup_steps: Steps of the warm-up of each schedule.
    """

    def __init__(self, learning_rate: float, weight_decay: float, total_steps: int, warmup_steps: int) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self._adamw: torch.optim.AdamW | None = None
        self._componentwise = ComponentwiseAdamW(lambda step, start: self.learning_rate * self.factor(step, start))

    @override
    def add_epsilon_before_correction(self) -> None:
        self._componentwise.epsilon_before_correction = True

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of torch's AdamW."""
        return [] if self._adamw is None else self._adamw.param_groups

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """All trained parameters."""
        for group in self.groups:
            yield from group["params"]
        yield from self._componentwise.parameters

    @override
    def add_group(self, parameters: Mapping[str, nn.Parameter], weight_decay: float | None = None) -> None:
        decay = self.weight_decay if weight_decay is None else weight_decay
        for skip in (False, True):
            chosen = {name: p for name, p in parameters.items() if undecayed(name) == skip}
            if chosen:
                self._add(chosen, 0.0 if skip else decay)

    def _add(self, parameters: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        group = {
            "params": list(parameters.values()), "names": list(parameters), "weight_decay": weight_decay,
            "lr": self.learning_rate,
        }  # fmt: skip
        if self._adamw is None:
            self._adamw = torch.optim.AdamW([group], fused=True)
        else:
            self._adamw.add_param_group(group)

    @override
    def add_components(self, name: str, parameter: nn.Parameter, dim: int) -> None:
        self._componentwise.add(name, parameter, dim, 0.0 if undecayed(name) else self.weight_decay)

    @override
    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        self._componentwise.set_schedule_start(parameter, index, start)

    def factor(self, step: int, start: Tensor) -> Tensor:
        """Compute the learning rate as a fraction of the peak.

        Args:
            step: The step.
            start: Steps in which schedules start.

        Returns:
            The fractions, in the shape of `start`.
        """
        rising = (step - start) / max(1, self.warmup_steps)
        falling = (self.total_steps - step) / (self.total_steps - start - self.warmup_steps).clamp_min(1)
        part = torch.where(step - start < self.warmup_steps, rising, falling).clamp_min(0)
        return part.masked_fill(start == CONSTANT, 1.0)

    def step(self, step: int) -> None:
        """Update the weights; `step` is the number of previous steps."""
        assert next(self.parameters, None) is not None, "the optimizer has no parameters"
        rate = self.learning_rate * float(self.factor(step, torch.tensor(0)))
        for group in self.groups:
            group["lr"] = rate
            if self._componentwise.epsilon_before_correction:
                group["eps"] = EPSILON / math.sqrt(1 - BETA2 ** (step + 1))
        if self._adamw is not None:  # a model without a head may have only components
            self._adamw.step()
        self._componentwise.step(step)

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Undo the loss scale and set gradients of frozen components to zero; required before gradients are clipped."""
        if self._adamw is not None:
            scaler.unscale_(self._adamw)
        if next(self._componentwise.parameters, None) is not None:
            scaler.unscale_(self._componentwise)  # type: ignore[arg-type]
            self._componentwise.drop_frozen_gradients()

    def zero_grad(self) -> None:
        """Delete all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @override
    @torch.no_grad()
    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        if parameter in self._componentwise:
            self._componentwise.keep(parameter, index)
            return
        state = self._state(parameter)
        for moment in MOMENTS:
            if moment in state:
                state[moment] = state[moment].index_select(dim, index.to(state[moment].device))

    @override
    @torch.no_grad()
    def combine(self, parameter: nn.Parameter, coefficients: Tensor, dim: int) -> None:
        state = self._state(parameter)
        # exact for first moments; for second ones if the gradients of the old components are uncorrelated (ours)
        for moment, weights in zip(MOMENTS, (coefficients, coefficients.square()), strict=True):
            if moment in state:
                old = state[moment].movedim(dim, 0)
                state[moment] = (weights.to(old) @ old).movedim(0, dim).contiguous()

    @override
    def grow(self, parameter: nn.Parameter, start: int) -> None:
        self._componentwise.grow(parameter, start)

    def _state(self, parameter: nn.Parameter) -> dict[str, Any]:
        assert self._adamw is not None
        state: dict[str, Any] = self._adamw.state.get(parameter, {})
        return state

    def state_dict(self) -> dict[str, Any]:
        """Return the groups by parameter names, and the moments of each parameter."""
        return {
            "groups": [{key: group[key] for key in ("names", "weight_decay")} for group in self.groups],
            "moments": {
                name: {key: value.clone() for key, value in self._state(parameter).items()}
                for group in self.groups
                for name, parameter in zip(group["names"], group["params"], strict=True)
            },
            "componentwise": self._componentwise.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
        """Restore groups and moments in a new optimizer for parameters given by name."""
        self._adamw = None
        for group in state["groups"]:
            chosen = {name: parameters[name] for name in group["names"]}
            self._add(chosen, group["weight_decay"])
        for name, moments in state["moments"].items():
            assert self._adamw is not None
            parameter = parameters[name]
            self._adamw.state[parameter] = {key: value.to(parameter.device).clone() for key, value in moments.items()}
        self._componentwise.load_state_dict(state["componentwise"], parameters)
