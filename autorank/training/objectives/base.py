"""The interface of an objective, and what an objective needs to evaluate a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from autorank.tasks.definition import TaskData
from autorank.tasks.metrics.outcomes import Scores
from autorank.tasks.splits.tokenized import Split
from autorank.training.eval_batch_size import EvalBatchSize

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

T = TypeVar("T")
EVAL_BATCH = 64  # examples in an evaluation batch, fewer if memory runs out; results do not depend on it


class Predictor(Protocol):
    """A model in evaluation mode, as an objective sees it."""

    model: nn.Module
    device: torch.device
    eval_batch_size: EvalBatchSize

    def autocast(self) -> AbstractContextManager[None]:
        """The precision in which the model computes."""

    def prepared(self) -> AbstractContextManager[None]:
        """A context of passes between which the weights do not change."""

    def read(
        self, split: Split, batches: list[np.ndarray], reader: Callable[[np.ndarray, Any], T]
    ) -> list[tuple[np.ndarray, T]]:
        """Run the model on batches of a split, which the workers of a run share.

        Args:
            split: The examples.
            batches: Indices into the split.
            reader: Called with the indices of a batch (or of a part of it, if memory runs out) and the model's
                outputs. Its result must be on the CPU.

        Returns:
            The indices and results of all batches, equal on all workers.
        """

    def share(self, batches: list[np.ndarray], call: Callable[[np.ndarray], T]) -> list[tuple[np.ndarray, T]]:
        """Call a function for each batch (or for parts of it, if memory runs out) on one of the workers.

        Args:
            batches: Indices.
            call: The function. Its result must be on the CPU.

        Returns:
            The indices and results of all batches, equal on all workers.
        """

    def decoding_batch(self, tokens: int) -> int:
        """Return how many prompts to decode together if prompt and completion have at most `tokens` tokens."""

    def predict(self, split: Split, batches: list[np.ndarray]) -> np.ndarray:
        """Compute logits.

        Args:
            split: The examples.
            batches: Indices into the split.

        Returns:
            Logits in the split's order, `examples x outputs`; NaN for examples in no batch.
        """


class Objective(ABC):
    """The loss and the metrics of one kind of task.

    Args:
        data: The task with its tokenized splits.

    Attributes:
        outputs_suffice: Whether an evaluation needs the model's outputs only, and these are small.
    """

    outputs_suffice: ClassVar[bool] = True

    def __init__(self, data: TaskData) -> None:
        self.data, self.task = data, data.task

    def check(self, config: PreTrainedConfig) -> None:
        """Check that a model can learn from the tokenized texts; by default every model can.

        Args:
            config: The model's configuration.

        Raises:
            AutorankError: The model cannot.
        """
        return

    @abstractmethod
    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean loss of a micro-batch, weighted by the examples' `Split.weights`.

        Args:
            outputs: What the model returned.
            labels: The batch's labels; the shape depends on the kind of task.

        Returns:
            A scalar in float32.
        """

    def trim(self, outputs: Any, width: int) -> Any:
        """Return the outputs of a batch as if it had been padded to another width; by default, losses ignore padding.

        Args:
            outputs: What the model returned for the batch.
            width: Tokens of the longest example.

        Returns:
            The outputs in the form of the model's.
        """
        return outputs

    def forward_cost(self, splits: Mapping[str, Split]) -> float:
        """Return what one forward pass of all examples costs.

        Args:
            splits: The splits, by name.

        Returns:
            Number of tokens.
        """
        return float(sum(split.lengths.sum() for split in splits.values()))

    def evaluation_cost(self, splits: Mapping[str, Split]) -> float:
        """Return what an evaluation costs, in tokens of a forward pass.

        Args:
            splits: The splits to evaluate, by name.

        Returns:
            Number of tokens.
        """
        return self.forward_cost(splits)

    @abstractmethod
    def evaluate(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """Score a model.

        Args:
            predictor: The model.
            splits: The splits to evaluate, by name.

        Returns:
            The task's metrics by name, the score first, with the outcome of each example if the score follows from it.
        """
