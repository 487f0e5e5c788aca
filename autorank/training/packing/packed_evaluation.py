"""Evaluations of several lanes in the same passes: their outputs are recorded, and each lane scores its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from autorank.tasks.data.batches import collate, eval_batches
from autorank.tasks.splits.tokenized import Split
from autorank.training.eval_batch_size import EvalBatchSize
from autorank.training.objectives.base import EVAL_BATCH
from autorank.training.optimization.forward_passes import ForwardPasses, to_device
from autorank.training.packing.packed_factors import packed
from autorank.training.packing.packed_model import PackedModel

MAX_ROWS_PER_PASS = 4 * EVAL_BATCH  # rows in a pass, fewer if memory runs out
LaneOutputs = dict[int, list[tuple[np.ndarray, Any]]]
"""For each split, by its id: indices of examples, and the model's outputs for them."""


class RecordedPasses(ForwardPasses):
    """Passes whose outputs are known.

    Attributes:
        recorded: The outputs.
    """

    recorded: LaneOutputs

    @override
    def outputs(
        self, split: Split, batches: list[np.ndarray], before: Callable[[dict[str, Tensor]], None] | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        yield from self.recorded[id(split)]


def record(
    model: PackedModel, lanes: Sequence[int], passes: ForwardPasses, splits: Mapping[str, Split], size: EvalBatchSize
) -> list[LaneOutputs]:
    """Pass splits through a packed model in evaluation mode.

    Args:
        model: The packed model; the models of the lanes must be in evaluation mode.
        lanes: Numbers of the lanes.
        passes: Its passes.
        splits: The splits, by name.
        size: Number of examples that fit in memory for these lanes.

    Returns:
        The outputs of each lane.
    """
    model.rows.lanes = list(lanes)
    recorded: list[LaneOutputs] = [{} for _ in lanes]

    @torch.no_grad()
    def run(split: Split, examples: np.ndarray) -> list[Any]:
        batch = to_device(collate(split, np.tile(examples, len(lanes)), passes.pad_id), passes.device)
        batch.pop("labels")
        model.rows.examples = len(examples)
        return model.rows.split_outputs(passes.forward(batch))

    model.model.eval()
    with packed(model.layers, passes.dtype):
        for split in splits.values():
            batches = eval_batches(split.lengths, max(1, min(EVAL_BATCH, MAX_ROWS_PER_PASS // len(lanes))))
            for examples, outputs in size.map(batches, partial(run, split)):
                for of_lane, output in zip(recorded, outputs, strict=True):
                    of_lane.setdefault(id(split), []).append((examples, output))
    return recorded
