"""Copies of a base model that share its frozen weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn
from typing_extensions import override

from autorank.modeling.base_model import BaseModel


@dataclass
class SharedBase(BaseModel):
    """A base model with modules and a head of its own, and the frozen weights of another.

    A weight that is unfrozen is copied first, so the other model does not change.
    """

    _shared: set[nn.Parameter] = field(default_factory=set)

    @classmethod
    def of(cls, base: BaseModel) -> SharedBase:
        """Create a copy that shares the frozen weights.

        Args:
            base: A base model without adapters.

        Returns:
            The copy; call its `reset` before use.
        """
        head = {base.model.get_parameter(name) for name in base.head}
        shared = {parameter for parameter in base.model.parameters() if parameter not in head}
        model = copy.deepcopy(base.model, {id(tensor): tensor for tensor in (*shared, *base.model.buffers())})
        clean = {
            model.get_parameter(name): base._clean[parameter].clone()
            for name, parameter in base.model.named_parameters()
            if parameter in head and parameter in base._clean
        }
        return cls(model, base.new, base.head, base.std, base.replaces_head, base.mask_form, clean, shared)

    @override
    def unfreeze(self, names: Iterable[str]) -> None:
        names = list(names)
        for name in names:
            module = self.model.get_submodule(name.rpartition(".")[0])
            # `unfreeze` also converts the other vectors of a module
            vectors = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 1]
            for parameter in (*vectors, self.model.get_parameter(name)):
                self._copy(parameter)
        super().unfreeze(names)

    def _copy(self, parameter: nn.Parameter) -> None:
        """Replace a shared parameter by a copy, wherever the model uses it."""
        if parameter not in self._shared:
            return
        copied = nn.Parameter(parameter.detach().clone(), requires_grad=False)
        for module in self.model.modules():
            for name, value in module._parameters.items():
                if value is parameter:
                    module._parameters[name] = copied
