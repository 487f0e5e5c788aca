"""A custom method in a single file: LoRA with higher ranks in the upper half of the model.

python examples/own_method.py

docs/adding-a-method.md explains how to package a method, with its space and a test, and documents the interface.
"""

from __future__ import annotations

import os
from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext


class UpperHalfConfig(TargetedConfig):
    """learning_rate and targets are inherited."""

    rank: int = Field(4, ge=1, description="rank in the lower half")
    factor: int = Field(2, ge=1, description="ratio of the rank in the upper half to the rank in the lower half")

    def ranks(self, layers: int) -> list[int]:
        """The rank of each adapted layer, the first one first."""
        return [self.rank * (self.factor if 2 * i >= layers else 1) for i in range(layers)]


class UpperHalf(AllocationMethod[UpperHalfConfig]):
    """Most of the budget goes to the layers near the output."""

    name = "upper-half"
    summary = "Higher ranks in the upper half of the model"
    source = "examples/own_method.py"
    Config: ClassVar[type[UpperHalfConfig]] = UpperHalfConfig

    def prepare(self, run: RunContext) -> None:
        for (name, layer), rank in zip(run.layers.items(), self.config.ranks(len(run.layers)), strict=True):
            attach(run.model, name, LowRankUpdate.lora(*features(layer), rank, 16.0, run.generator, run.device))

    @classmethod
    def adapter_params(cls, config: UpperHalfConfig, model: nn.Module) -> tuple[int, int]:
        sizes = [sum(shape) for shape in shapes(model, config.targets).values()]
        total = sum(size * rank for size, rank in zip(sizes, config.ranks(len(sizes)), strict=True))
        return total, total


def main() -> None:
    # NAME=MODULE:CLASS. Ray's processes find the module beside this script; an entry point needs no variable
    os.environ["AUTORANK_METHODS"] = "upper-half=own_method:UpperHalf"
    import autorank

    space = {
        "rank": {"type": "int", "low": 1, "high": 8, "log": True},
        "factor": {"choices": [1, 2, 4]},
        "learning_rate": {"type": "float", "low": 5e-4, "high": 5e-3, "log": True},
    }
    search = autorank.search(
        method="upper-half", space=space, task="demo", trials=3, steps=40, eval_every=20, name="upper-half"
    )
    print(search.front)
    print(search.ranks())  # the knee's


if __name__ == "__main__":
    main()
