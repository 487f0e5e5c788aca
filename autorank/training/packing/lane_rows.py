"""Which rows of a packed batch belong to which lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from autorank.errors import AutorankError


class LaneRows:
    """The lanes of the current pass, whose examples follow each other in the batch.

    Attributes:
        lanes: Numbers of the lanes, in the order of their rows.
        examples: Rows of each lane.
    """

    def __init__(self) -> None:
        self.lanes: list[int] = []
        self.examples = 0

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split the input or output of a layer into those of the lanes.

        Args:
            values: Batch x ...

        Returns:
            A view of the rows of each lane.

        Raises:
            AutorankError: The tensor has no rows for the lanes, which the model then shares unexpectedly.
        """
        self.check(values)
        return values.chunk(len(self.lanes))

    def split_outputs(self, outputs: Any, predicted: Sequence[int] | None = None) -> list[Any]:
        """Split what a model returned.

        Args:
            outputs: The outputs of transformers; what is not a tensor is left out.
            predicted: Predicted tokens of each lane, if these alone have logits (see `model_call.call`).

        Returns:
            The outputs of each lane, in the same form.
        """
        if predicted is not None:
            return [type(outputs)(logits=logits) for logits in outputs.logits.split(list(predicted), dim=1)]
        parts = {name: value.chunk(len(self.lanes)) for name, value in outputs.items() if isinstance(value, Tensor)}
        return [type(outputs)(**dict(zip(parts, values, strict=True))) for values in zip(*parts.values(), strict=True)]

    def check(self, values: Tensor) -> None:
        """Check that the first dimension of a tensor consists of the lanes' rows.

        Args:
            values: Batch x ...

        Raises:
            AutorankError: It does not.
        """
        if values.shape[0] % (len(self.lanes) * self.examples):
            raise AutorankError(
                f"This model cannot train packed trials: a layer's input has {values.shape[0]} rows for "
                f"{len(self.lanes)} x {self.examples} examples. Train its trials alone."
            )
