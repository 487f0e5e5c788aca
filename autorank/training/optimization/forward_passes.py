"""Forward passes of a model for an objective: in training, and over a split in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from autorank.modeling import adapters
from autorank.modeling.forward.attention_masks import MASK, Form, additive, find_form
from autorank.modeling.forward.model_call import PREDICTED, call
from autorank.modeling.layers.prepared_factors import prepared
from autorank.tasks.data.batches import collate, eval_batches
from autorank.tasks.splits.tokenized import Split
from autorank.training.eval_batch_size import EvalBatchSize, decoding_batch
from autorank.training.model_cache import DTYPES
from autorank.training.objectives.base import EVAL_BATCH, Objective, Predictor
from autorank.training.optimization import distributed

T = TypeVar("T")


class ForwardPasses(Predictor):
    """Passes batches through a model.

    Args:
        model: The model.
        split: The split of `inputs`.
        pad_id: Id of the padding token.
        objective: The task's objective.
        precision: fp32, bf16 or fp16.
        device: Device of the model.
        eval_batch_size: Batch size of passes without gradients; a new one by default.
        mask_form: Form in which the model takes attention masks.

    Attributes:
        dtype: Type of autocast; None: there is no autocast.
    """

    def __init__(
        self, model: nn.Module, split: Split, pad_id: int, objective: Objective, precision: str, device: torch.device,
        eval_batch_size: EvalBatchSize | None = None, mask_form: Form = "tokens",
    ) -> None:  # fmt: skip
        self.model, self.split, self.pad_id, self.objective, self.device = model, split, pad_id, objective, device
        self.eval_batch_size = eval_batch_size or EvalBatchSize()
        self.dtype = None if precision == "fp32" else DTYPES[precision]
        self._mask_form = mask_form

    def inputs(self, examples: np.ndarray) -> dict[str, Tensor]:
        """Return the batch of these examples, which includes labels, on the device."""
        return to_device(collate(self.split, examples, self.pad_id), self.device)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch, which includes labels, in float32."""
        labels = batch.pop("labels")
        return self.objective.loss(self.forward(batch), labels)

    @torch.no_grad()
    def find_mask_form(self) -> Form:
        """The form in which the model takes attention masks, found with the two shortest examples that differ."""
        lengths, shortest = np.unique(self.split.lengths, return_index=True)
        if len(lengths) < 2:
            return "tokens"
        batch = to_device(collate(self.split, shortest[:2], self.pad_id), self.device)
        batch = {name: values for name, values in batch.items() if name not in ("labels", PREDICTED)}
        self.model.eval()
        with self.autocast():
            return find_form(self.model, batch, self.dtype or torch.float32)

    def forward(self, batch: dict[str, Tensor]) -> Any:
        """Return what the model returns for a batch without labels."""
        if self._mask_form != "tokens":
            batch = batch | {MASK: additive(batch[MASK], self._mask_form, self.dtype or torch.float32)}
        with self.autocast():
            return call(self.model, batch)

    @torch.no_grad()
    def mean_loss(self, splits: Mapping[str, Split]) -> float:
        """Return the weighted mean loss over all examples of some splits, in evaluation mode."""
        terms, weight = [], 0.0
        for split in splits.values():

            def loss(examples: np.ndarray, outputs: Any, split: Split = split) -> float:
                labels = collate(split, examples, self.pad_id)["labels"].to(self.device)
                return self.objective.loss(outputs, labels).item()

            for examples, mean in self.read(split, eval_batches(split.lengths, EVAL_BATCH), loss):
                terms.append(mean * float(split.weights[examples].sum()))
            weight += float(split.weights.sum())
        return math.fsum(terms) / weight  # fsum, because the order depends on the number of workers

    @override
    def prepared(self) -> AbstractContextManager[None]:
        return prepared((layer.update for layer in adapters.adapted(self.model).values()), self.dtype)

    @override
    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def outputs(
        self, split: Split, batches: list[np.ndarray], before: Callable[[dict[str, Tensor]], None] | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Pass batches through the model in evaluation mode.

        Args:
            split: The split.
            batches: Indices in the split; a batch that does not fit in memory is halved, unless `before` is given.
            before: Called with each batch before its forward pass.

        Yields:
            The indices of a batch, and the model's output.
        """
        self.model.eval()

        @torch.no_grad()  # around the generator it would keep the last output alive (see `EvalBatchSize.map`)
        def run(examples: np.ndarray) -> Any:
            batch = to_device(collate(split, examples, self.pad_id), self.device)
            batch.pop("labels")
            if before:
                before(batch)
            return self.forward(batch)

        with self.prepared():
            # with `before`, hooks on layers would see examples twice if a batch was halved
            yield from (
                ((examples, run(examples)) for examples in batches)
                if before
                else self.eval_batch_size.map(batches, run)
            )

    @override
    def read(
        self, split: Split, batches: list[np.ndarray], reader: Callable[[np.ndarray, Any], T]
    ) -> list[tuple[np.ndarray, T]]:
        results = []
        for examples, outputs in self.outputs(split, list(distributed.own_share(batches))):
            results.append((examples, reader(examples, outputs)))
            del outputs  # see `EvalBatchSize.map`
        return list(chain.from_iterable(distributed.gather(results)))

    @override
    def share(self, batches: list[np.ndarray], call: Callable[[np.ndarray], T]) -> list[tuple[np.ndarray, T]]:
        results = list(self.eval_batch_size.map(distributed.own_share(batches), call))
        return list(chain.from_iterable(distributed.gather(results)))

    @override
    def decoding_batch(self, tokens: int) -> int:
        return min(distributed.gather(decoding_batch(self.model.config, tokens, self.device)))

    @override
    def predict(self, split: Split, batches: list[np.ndarray]) -> np.ndarray:
        results = self.read(split, batches, lambda _, outputs: outputs.logits.float().cpu().numpy())
        logits = np.full((len(split), results[0][1].shape[1]), np.nan, dtype=np.float32)
        for examples, rows in results:
            logits[examples] = rows
        return logits


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copy a batch to a device; copies to a CUDA GPU are asynchronous."""
    if device.type != "cuda":
        return {name: values.to(device) for name, values in batch.items()}
    return {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.items()}
