"""Packs of trials next to the same trials one after the other: results, time, launches and memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from autorank.spec import TrainSpec
from autorank.training.packing.lane import Lane
from autorank.training.packing.pack import Pack
from autorank.training.packing.packed_evaluation import LaneOutputs
from autorank.training.run import TrainingRun
from benchmarks.gpu import workload
from benchmarks.gpu.memory import GIB, clean
from benchmarks.gpu.methods import DATA, EVERY, distance
from benchmarks.gpu.timing import profile_step, wait
from benchmarks.gpu.workload import Options, RandomCache, losses, train_spec
from tests.trainables.cases import LOW_RANK, METHODS, STEPS

LANES = (8, 1, 16, 4, 2)  # most important first, in case time runs out
SIZES = ((16, 64), (16, 16))  # examples and tokens of a step of each trial
RANKS = (8, 4)  # ranks of the trials, by turns
WARM, TIMED = 3, 12
LIMIT = 1e-2  # relative, between losses of a lane and of a run alone


class StrictPack(Pack):
    """A pack that raises the errors of its passes; a search would repeat them with fewer lanes."""

    def _train(self, lanes: Sequence[Lane]) -> None:
        self._gradients(lanes)
        for lane in lanes:
            lane.update()

    def _record(self, lanes: Sequence[Lane]) -> dict[Lane, LaneOutputs]:
        outputs = super()._record(lanes)
        if len(lanes) > 1 and not outputs:
            raise RuntimeError("the evaluation of several lanes in one pass failed")
        return outputs


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row that compares losses; then one for a trial alone and one per number of lanes."""
    yield check(options)
    shape, lanes = ("tiny-bert", (2,)) if options.tiny else ("roberta-base", LANES)
    for batch, length in ((2, 8),) if options.tiny else SIZES:
        yield from measure_packs(shape, lanes, batch, length, options)


def check(options: Options) -> dict[str, Any]:
    """Compare the losses of all methods in one pack with those of runs alone, in float32."""
    methods = ("lora", "increlora") if options.tiny else LOW_RANK
    specs = [
        train_spec(
            name, {key: value for key, value in METHODS[name].settings.items() if key != "dropout"},
            steps=STEPS, batch_size=8, eval_every=EVERY, precision="fp32", accumulate=1,
        )
        for name in methods
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:

        def cache() -> RandomCache:
            return RandomCache("tiny-bert", DATA, options.device, Path(folder))

        pack = StrictPack(cache())
        lanes = [pack.join(spec) for spec in specs]
        lane_losses: list[list[float]] = [[] for _ in lanes]
        while results := pack.advance():
            for lane, result in results.items():
                if isinstance(result, Exception):
                    raise result
                lane_losses[lanes.index(lane)].append(result.train_loss)
        differences = {
            name: distance(values, losses(TrainingRun(spec, cache())))
            for name, values, spec in zip(methods, lane_losses, specs, strict=True)
        }
    worst_method = max(differences, key=lambda name: differences[name])
    row = {"case": f"losses of {len(methods)} methods in a pack", "largest difference": differences[worst_method]}
    return row | {"method": worst_method, "ok": differences[worst_method] <= LIMIT}


def measure_packs(
    shape: str, lanes: Sequence[int], batch: int, length: int, options: Options
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Measure trials alone, one of each rank, and packs."""
    data = workload.task_data(
        workload.examples(20 * batch, length - 1, length), workload.examples(8, length - 1, length, seed=1)
    )
    case = f"{shape} {batch}x{length}"
    specs = [
        train_spec(
            "lora", {"targets": "attention-qv", "rank": RANKS[k % len(RANKS)]}, steps=1000, batch_size=batch,
            eval_every=1000, accumulate=1,
        )
        for k in range(max(lanes))
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:

        def cache() -> RandomCache:
            return RandomCache(shape, data, options.device, Path(folder))

        rows_alone = []
        for spec in specs[: len(RANKS)]:
            clean()
            rows_alone.append(measure_step(start_alone(spec, cache()), options))
        yield {"case": case, "trials": 1, "in": "a run alone"} | rows_alone[0]
        for count in lanes:
            if options.late:
                yield {"case": case, "trials": count, "not run": "no time left"}
                continue
            clean()
            row = measure_step(start_pack(specs[:count], cache()), options)
            one_by_one = sum(rows_alone[k % len(RANKS)]["wall ms"] for k in range(count))
            yield {"case": case, "trials": count, "in": "a pack"} | row | {
                "one after the other ms": one_by_one, "times faster": one_by_one / row["wall ms"],
                "steps per second": 1e3 * count / row["wall ms"],
            }  # fmt: skip


def start_alone(spec: TrainSpec, cache: RandomCache) -> Callable[[], None]:
    """Start a run; return its step."""
    run = TrainingRun(spec, cache)
    run.start()
    return run.train_step


def start_pack(specs: Sequence[TrainSpec], cache: RandomCache) -> Callable[[], None]:
    """Start a pack; return its step, of all lanes."""
    pack = StrictPack(cache)
    for spec in specs:
        pack.join(spec)
    return pack.step


def measure_step(step: Callable[[], None], options: Options) -> dict[str, Any]:
    """Median wall time of a step; on a GPU its GPU time, launches and memory, too."""
    warm, timed = (1, 2) if options.tiny else (WARM, TIMED)
    seconds = []
    for _ in range(warm + timed):
        wait(options)
        started = time.perf_counter()
        step()
        wait(options)
        seconds.append(time.perf_counter() - started)
    row = {"wall ms": 1e3 * statistics.median(seconds[warm:])}
    if options.cuda:
        row["peak GiB"] = torch.cuda.max_memory_allocated() / GIB
        row |= profile_step(lambda _: step(), 0)
    return row
