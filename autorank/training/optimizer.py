"""AdamW whose parameter groups each run their own warm-up and decay, and follow adapters that grow or shrink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


def undecayed(name: str) -> bool:
    """Whether a parameter is left out of weight decay, as is usual: biases and normalisations."""
    return name.endswith("bias") or "norm" in name.lower()


class GroupedAdamW:
    """AdamW over named parameter groups with a schedule a group.

    A group that starts at step t rises over `warmup_steps` to the peak, then falls on a line to zero at
    `total_steps`, so that all groups end together. (torch's LambdaLR cannot take a group that is added later.)

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

    @property
    def groups(self) -> list[dict[str, Any]]:
        return [] if self._adamw is None else self._adamw.param_groups

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        for group in self.groups:
            yield from group["params"]

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

    def factor(self, step: int, start: int) -> float:
        """Part of the peak learning rate that a group of this start has at this step."""
        local = step - start
        if local < self.warmup_steps:
            return local / self.warmup_steps
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - start - self.warmup_steps))

    def step(self, step: int, scaler: torch.amp.GradScaler) -> None:
        """Move the weights; `step` is the number of steps done before."""
        assert self._adamw is not None, "the optimizer has no parameters"
        for group in self.groups:
            group["lr"] = self.learning_rate * self.factor(step, group["start"])
        scaler.step(self._adamw)
        scaler.update()

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Gradients in their true size; needed before they are clipped."""
        assert self._adamw is not None
        scaler.unscale_(self._adamw)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        """The parameter was shrunk to `index` along `dim`: shrink its moments alike."""
        state = self._state(parameter)
        for moment in MOMENTS:
            if moment in state:
                state[moment] = state[moment].index_select(dim, index.to(state[moment].device))

    @torch.no_grad()
    def grow(self, parameter: nn.Parameter, dim: int) -> None:
        """The parameter was extended along `dim`: extend its moments with zeros."""
        state = self._state(parameter)
        for moment in MOMENTS:
            if moment in state:
                old = state[moment]
                state[moment] = torch.zeros_like(parameter)
                state[moment].narrow(dim, 0, old.shape[dim]).copy_(old)

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
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
        """Groups and moments of `state` for a new optimizer over these named parameters."""
        self._adamw = None
        for group in state["groups"]:
            chosen = {name: parameters[name] for name in group["names"]}
            self._add(chosen, group["start"], group["weight_decay"])
        assert self._adamw is not None
        for name, moments in state["moments"].items():
            parameter = parameters[name]
            self._adamw.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
