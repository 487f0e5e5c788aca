"""AdamW with a learning-rate schedule per parameter group or component, for adapters whose ranks change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autorank.run_context import CONSTANT
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


class GroupedAdamW:
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

    def add_epsilon_before_correction(self) -> None:
        """Add ε before the bias of the second moment is corrected, as the former AdamW of transformers does."""
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

    def add_group(self, parameters: Mapping[str, nn.Parameter], weight_decay: float | None = None) -> None:
        """Train parameters.

        Args:
            parameters: The parameters by name.
            weight_decay: Weight decay; None: that of the run.
        """
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

    def add_components(self, name: str, parameter: nn.Parameter, dim: int) -> None:
        """Train a factor whose components have their own schedule starts, initially step 0.

        Args:
            name: Name of the parameter.
            parameter: The factor.
            dim: Dimension of its components.
        """
        self._componentwise.add(name, parameter, dim, 0.0 if undecayed(name) else self.weight_decay)

    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        """Set the schedule start of components.

        Args:
            parameter: A factor added by `add_components`.
            index: Indices of the components.
            start: A step, `CONSTANT` or `FROZEN`.
        """
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

    @torch.no_grad()
    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        """Follow a parameter of which only a part is left.

        Args:
            parameter: The parameter.
            index: Indices of the remaining components.
            dim: Dimension of the components.
        """
        if parameter in self._componentwise:
            self._componentwise.keep(parameter, index)
            return
        state = self._state(parameter)
        for moment in MOMENTS:
            if moment in state:
                state[moment] = state[moment].index_select(dim, index.to(state[moment].device))

    @torch.no_grad()
    def combine(self, parameter: nn.Parameter, coefficients: Tensor, dim: int) -> None:
        """Transform a parameter's moments after its components were replaced by linear combinations.

        First moments are transformed linearly, which is exact; second moments by the squared coefficients, which
        is exact if the gradients of the old components are uncorrelated (ours).

        Args:
            parameter: A factor without schedule starts of its own.
            coefficients: new x old components.
            dim: Dimension of the components.
        """
        state = self._state(parameter)
        for moment, weights in zip(MOMENTS, (coefficients, coefficients.square()), strict=True):
            if moment in state:
                old = state[moment].movedim(dim, 0)
                state[moment] = (weights.to(old) @ old).movedim(0, dim).contiguous()

    def grow(self, parameter: nn.Parameter, start: int) -> None:
        """Follow a factor that has gained components; their schedules start at `start`."""
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
