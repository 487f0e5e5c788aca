"""Several runs (lanes) that train together over one frozen base model.

The batches of the lanes are stacked, and one forward and one backward pass serve all of them. Lanes join and leave
between steps, and may be at different steps: the batch of each lane is that of its own step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch

from autorank.errors import AutorankError
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.forward.model_call import PREDICTED
from autorank.modeling.loading.auto_model import set_pad_token
from autorank.spec import TrainSpec
from autorank.training import gpu
from autorank.training.eval_batch_size import EvalBatchSize
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.forward_passes import ForwardPasses
from autorank.training.optimization.rng import stream
from autorank.training.packing.lane import Lane, SharingCache
from autorank.training.packing.packed_evaluation import LaneOutputs, record
from autorank.training.packing.packed_factors import packed
from autorank.training.packing.packed_model import PackedModel

Result = Evaluation | Exception
T = TypeVar("T")
SHARED = {"precision", "quantize", "gradient_checkpointing"}  # training settings that lanes have in common


class Pack:
    """Trains several runs together.

        pack = Pack(ModelCache())
        lanes = [pack.join(spec) for spec in specs]
        while results := pack.advance():
            for lane, result in results.items():
                ...

    A lane that fails leaves the pack; the others go on. If memory runs out, fewer lanes share a pass. A method that
    trains no low-rank updates takes its steps alone.

    Args:
        model_cache: Provides base model and data.

    Attributes:
        cache: The model cache of the lanes.
        lanes: The runs that train.
        max_lanes: Number of lanes that fit in a pass.
    """

    def __init__(self, model_cache: ModelCache) -> None:
        self.cache = SharingCache(model_cache)
        self.lanes: list[Lane] = []
        self._steps = 0
        self.max_lanes = 1 << 40
        self._eval_batch_size = EvalBatchSize()
        self._packed: tuple[list[Lane], PackedModel, ForwardPasses] | None = None
        self._failed: dict[Lane, Result] = {}

    def join(self, spec: TrainSpec, state: dict[str, Any] | None = None) -> Lane:
        """Add a run.

        Args:
            spec: The specification of the run.
            state: The `state_dict` to resume from; None: a new run.

        Returns:
            The lane, prepared.

        Raises:
            AutorankError: The run cannot be started, or differs from the others in task, model, precision or
                memory.
        """
        if self.lanes and _shared(self.lanes[0].spec) != _shared(spec):
            raise AutorankError("Packed runs must have the same task, model, precision and quantization.")
        lane = Lane(spec, self.cache)
        try:
            lane.open(state)
        except BaseException:
            lane.release()
            raise
        self.lanes.append(lane)
        self._packed = None
        return lane

    def leave(self, lane: Lane) -> None:
        """End a run at any point."""
        self.lanes.remove(lane)
        self._packed = None
        lane.release()

    def advance(self) -> dict[Lane, Result]:
        """Train until at least one lane is due for evaluation or fails.

        Returns:
            The evaluations of the lanes that are due, and the errors of those that failed, which have left the pack.
            Empty if all lanes are finished.
        """
        while (training := [lane for lane in self.lanes if not lane.finished]) and not self._failed:
            started = time.perf_counter()
            self.step()
            due = [lane for lane in training if lane in self.lanes and lane.step >= lane.next_due]
            if due:
                gpu.wait(self.cache.device)
            for lane in training:
                lane.trained_for((time.perf_counter() - started) / len(training))
            if due or self._failed:
                return self._evaluate(due)
        return self._evaluate([])

    def _evaluate(self, due: Sequence[Lane]) -> dict[Lane, Result]:
        started = time.perf_counter()
        recorded = self._record([lane for lane in due if lane.recordable])
        for lane in recorded:
            lane.trained_for((time.perf_counter() - started) / len(recorded))
        results: dict[Lane, Result] = {}
        for lane in due:
            evaluation = self._guarded(lane, partial(lane.evaluate, recorded.pop(lane, None)))
            if evaluation is not None:
                results[lane] = evaluation
        failed, self._failed = self._failed, {}
        return results | failed

    def _record(self, lanes: Sequence[Lane]) -> dict[Lane, LaneOutputs]:
        """Compute the outputs of lanes that are evaluated at the same time; none if the passes fail."""
        if len(lanes) < 2:
            return {}
        for lane in lanes:
            lane.model.eval()
        order, model, passes = self._packed_model()
        numbers = [order.index(lane) for lane in lanes]
        try:
            outputs = record(model, numbers, passes, lanes[0].validation, self._eval_batch_size)
        except torch.AcceleratorError:
            raise
        except Exception:
            return {}  # each lane evaluates by itself, and that which fails then leaves
        return dict(zip(lanes, outputs, strict=True))

    def step(self) -> None:
        """Take a step of each lane that is not finished."""
        lanes = [lane for lane in self.lanes if not lane.finished]
        together = [lane for lane in lanes if lane.reason_alone is None]
        with stream(self.cache.device, lanes[0].spec.training.seed, "pack", self._steps):
            self._steps += 1
            for start in range(0, len(together), self.max_lanes):
                self._train(together[start : start + self.max_lanes])
            for lane in lanes:
                if lane not in together:
                    self._guarded(lane, lane.train_step)

    def _train(self, lanes: Sequence[Lane]) -> None:
        """Take a step of these lanes in one pass for each micro-batch, or in smaller groups if that fails."""
        try:
            self._gradients(lanes)
        except torch.AcceleratorError:
            raise  # nothing on the GPU survives it
        except Exception as error:
            for lane in lanes:
                lane.drop_gradients()
            if len(lanes) == 1:
                if isinstance(error, torch.OutOfMemoryError):
                    lanes[0].need_less_memory()
                self._fail(lanes[0], error)
                return
            ran_out = isinstance(error, torch.OutOfMemoryError)
        else:
            for lane in lanes:
                self._guarded(lane, lane.update)
            return
        if self.cache.device.type == "cuda":
            torch.cuda.empty_cache()  # only now, because the exception kept the memory of the pass
        half = (len(lanes) + 1) // 2
        self._train(lanes[:half])
        self._train(lanes[half:])
        if ran_out and all(lane in self.lanes for lane in lanes):
            self.max_lanes = min(self.max_lanes, half)

    def _gradients(self, lanes: Sequence[Lane]) -> None:
        """Compute the gradients of a step of these lanes."""
        for lane in lanes:
            lane.begin_step()
        for number in range(max(len(lane.micro_batches) for lane in lanes)):
            members = [lane for lane in lanes if number < len(lane.micro_batches)]

            def size(lane: Lane, number: int = number) -> int:
                return len(lane.micro_batches[number].examples)

            # batched products need as many examples in each lane; the last batch of an epoch may have fewer
            for _, group in groupby(sorted(members, key=size), size):
                self._pass(list(group), number)

    def _pass(self, lanes: Sequence[Lane], number: int) -> None:
        """A forward and a backward pass for a micro-batch of each lane."""
        order, model, passes = self._packed_model()
        if not model.model.training:
            model.model.train()
        parts = [lane.micro_batches[number] for lane in lanes]
        examples = len(parts[0].examples)
        model.rows.lanes, model.rows.examples = [order.index(lane) for lane in lanes], examples
        batch = passes.inputs(np.concatenate([part.examples for part in parts]))
        counts = [passes.split.label_count(part.examples) for part in parts]
        labels_of_lanes = batch.pop("labels").split(counts)
        rows = {name: values.chunk(len(lanes)) for name, values in batch.items() if name != PREDICTED}
        for k, lane in enumerate(lanes):
            lane.before_forward({name: values[k] for name, values in rows.items()}, number)
        with packed(model.layers, passes.dtype):
            split = model.rows.split_outputs(passes.forward(batch), counts if PREDICTED in batch else None)
            losses = [
                lane.loss(outputs, labels, number)
                for lane, outputs, labels in zip(lanes, split, labels_of_lanes, strict=True)
            ]
            torch.stack(losses).sum().backward()

    def _packed_model(self) -> tuple[list[Lane], PackedModel, ForwardPasses]:
        """The packed lanes, their packed model, and its passes; made anew when lanes have joined or left."""
        if self._packed is None:
            lanes = [lane for lane in self.lanes if lane.reason_alone is None]
            assert self.cache.original is not None
            model = PackedModel(self.cache.original, [lane.model for lane in lanes])
            if lanes[0].spec.training.gradient_checkpointing:
                gradient_checkpointing.enable(model.model)  # type: ignore[arg-type]
            passes = lanes[0].passes(model.model, ForwardPasses)
            set_pad_token(model.model.config, passes.pad_id)  # type: ignore[arg-type]
            self._packed = lanes, model, passes
        return self._packed

    def _guarded(self, lane: Lane, call: Callable[..., T]) -> T | None:
        """Call a function of a lane; if it raises, the lane fails, and None is returned."""
        try:
            return call()
        except torch.AcceleratorError:
            raise
        except Exception as error:
            self._fail(lane, error)
            return None

    def _fail(self, lane: Lane, error: Exception) -> None:
        self._failed[lane] = error
        self.leave(lane)


def _shared(spec: TrainSpec) -> dict[str, Any]:
    """The parts of a spec that lanes have in common."""
    return spec.model_dump(mode="json", include={"task": True, "model": True, "training": SHARED})
