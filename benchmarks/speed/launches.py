"""Kernel launches of a training step and of a decoded token, ours and PEFT's, counted without a GPU.

    python -m benchmarks.speed.launches                # base models with 12 layers
    python -m benchmarks.speed.launches --layers 16 --only decoded      # Llama with a billion parameters
    python -m benchmarks.speed.launches --layers 2     # what the limits in CI are set for

Counted on the fake CUDA device (benchmarks/fake_cuda) in bf16: operators that launch a kernel, conversions of data
types among them, and waits of the host for the device. A `_foreach` or fused operator counts as one launch. Attention
is one kernel, as on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import fake_cuda

STEPS = 200  # length of the schedule
PACKED = (("lora", 1), ("lora", 8), ("dora", 8))  # method and trials in one pack, of ranks 4 and 8 by turns
DECODING = "llama-1b, all-linear, a decoded token, "
# shape, targets, contenders
CASES = (
    ("roberta-base", "attention-qv", ("lora", "peft lora", "dora")),
    ("roberta-base", "all-linear", ("lora", "peft lora", "adalora", "prilora", "dora", "peft dora")),
    ("deberta-v3-base", "all-linear", ("increlora", "increlora scored", "peft lora")),
)
TOKEN_COUNTS = (4, 8)  # tokens of two completions, whose difference is counted
Counts = tuple[Counter[str], Counter[str]]  # kernels by operator, waits by line of code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--only", action="append", help="only cases whose name contains this; may be repeated")
    parser.add_argument("--ours", action="store_true", help="leave PEFT out")
    parser.add_argument("--operators", action="store_true", help="list the operators, too")
    arguments = parser.parse_args()
    fake_cuda.load()
    print(f"{'':58}{'launches':>9}{'casts':>7}{'waits':>7}")
    for name, (kernels, waits) in count_cases(arguments.layers, arguments.only or [""], arguments.ours):
        launches, casts = sum(kernels.values()), kernels["_to_copy.default"]
        print(f"{name:58}{launches:9.0f}{casts:7.0f}{sum(waits.values()):7.0f}", flush=True)
        if arguments.operators:
            print("".join(f"    {count:7.1f} {operator}\n" for operator, count in kernels.most_common()))


def count_cases(layers: int, parts: Sequence[str] = ("",), skip_peft: bool = False) -> Iterator[tuple[str, Counts]]:
    """Count the launches of each case.

    Args:
        layers: Number of layers of the models.
        parts: Only cases whose name contains one of these.
        skip_peft: Leave PEFT out.

    Yields:
        The name and counts of each case.
    """
    cases: list[tuple[str, Callable[..., Counts], tuple[Any, ...]]] = []
    for shape, targets, names in CASES:
        cases += [(f"{shape}, {targets}, {name}", record_training, (shape, targets, name, layers)) for name in names]
    for method, lanes in PACKED:
        case = f"roberta-base, attention-qv, {method}, packed x {lanes}"
        cases.append((case, record_pack, (method, lanes, layers)))
    cases += [(DECODING + name, record_decoding, (name, layers)) for name in ("lora", "peft lora")]
    for case, record, values in cases:
        if any(part in case for part in parts) and not (skip_peft and ", peft" in case):
            yield case, fake_cuda.call_in_process(record, *values)


def record_training(shape: str, targets: str, name: str, layers: int) -> Counts:
    """Record a step after the first ones."""
    from benchmarks.fake_cuda.recorder import DEVICE, recording
    from benchmarks.speed import contenders

    hidden, _, heads, intermediate = contenders.SHAPES[shape]
    contenders.SHAPES[shape] = hidden, layers, heads, intermediate
    options = Namespace(shape=shape, targets=targets, rank=8, batch=4, length=16, steps=STEPS, precision="bf16")
    scored = name.endswith("scored")
    with recording() as recorder:
        step = contenders.make(name.removesuffix(" scored"), options, DEVICE)
        counted_step = contenders.first_allocation(options) - 1 if scored else 3
        step(0)  # IncreLoRA gets its reserves
        step(1)
        step(2)
        recorder.clear()
        step(counted_step)
    return recorder.kernels, recorder.waits


def record_pack(method: str, lanes: int, layers: int) -> Counts:
    """Record a step of `lanes` trials in one pack."""
    from autorank.training.packing.pack import Pack
    from benchmarks.fake_cuda.recorder import DEVICE, recording
    from benchmarks.gpu import workload

    data = workload.task_data(workload.examples(40, 16, 16), workload.examples(8, 16, 16, seed=1))
    family, size = workload.SHAPES["roberta-base"]
    workload.SHAPES["roberta-base"] = family, size | {"num_hidden_layers": layers}
    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        pack = Pack(workload.RandomCache("roberta-base", data, DEVICE, Path(folder)))
        for lane in range(lanes):
            settings = {"rank": (8, 4)[lane % 2], "targets": "attention-qv"}
            pack.join(workload.train_spec(method, settings, steps=STEPS, batch_size=4, accumulate=1, precision="bf16"))
        for _ in range(3):
            pack.step()
        recorder.clear()
        pack.step()
    return recorder.kernels, recorder.waits


def record_decoding(name: str, layers: int) -> Counts:
    """Record the tokens by which two completions differ."""
    from autorank.training.run import TrainingRun
    from benchmarks.fake_cuda.recorder import DEVICE, recording
    from benchmarks.gpu.workload import SHAPES, RandomCache, pairs, task_data, train_spec

    family, size = SHAPES["llama-1b"]
    SHAPES["llama-1b"] = family, size | {"num_hidden_layers": layers}
    data = task_data(pairs(4, 8, 8), pairs(4, 8, 8, seed=1))
    spec = train_spec("lora", {"rank": 16}, "e2e", steps=8, batch_size=4, eval_every=8, accumulate=1, precision="bf16")
    counts: list[Counts] = []
    with tempfile.TemporaryDirectory() as folder, recording() as recorder:
        run = TrainingRun(spec, RandomCache("llama-1b", data, DEVICE, Path(folder)))
        run._open()
        write = our_writer(run) if name == "lora" else peft_writer(run)
        for tokens in TOKEN_COUNTS:
            recorder.clear()
            write(tokens)
            counts.append((recorder.kernels.copy(), recorder.waits.copy()))
    for counter, shorter in zip(counts[1], counts[0], strict=True):
        for operator in counter:
            counter[operator] = (counter[operator] - shorter[operator]) / (TOKEN_COUNTS[1] - TOKEN_COUNTS[0])  # type: ignore[assignment]
    return counts[1]


def our_writer(run: Any) -> Callable[[int], object]:
    """Writes completions of a number of tokens with an evaluation's code."""
    run._prepare()
    (prompts,) = run._data.validation.values()

    def write(tokens: int) -> None:
        with end_after(tokens):
            run._objective.write(run._loop, prompts, tokens)

    return write


def peft_writer(run: Any) -> Callable[[int], object]:
    """Writes completions of a number of tokens with PEFT's LoRA and transformers' `generate`."""
    import torch
    from peft import LoraConfig, get_peft_model

    from autorank.modeling.forward.greedy_decoding import greedy

    layers = [name for name in run._context.layers]
    model: Any = get_peft_model(run._base.model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=layers)).eval()
    (prompts,) = run._data.validation.values()
    batch = {name: values.to(run._loop.device) for name, values in prompts.prompts(range(4), 0).items()}

    def write(tokens: int) -> None:
        with torch.no_grad(), run._loop.autocast(), end_after(tokens):
            model.generate(**batch, generation_config=greedy(run._data.ends, 0, None, tokens)).tolist()

    return write


@contextmanager
def end_after(tokens: int) -> Iterator[None]:
    """End completions after `tokens` tokens, since the fake device has no values that could end them."""
    from transformers import GenerationMixin

    calls = itertools.count()
    with mock.patch.object(GenerationMixin, "_has_unfinished_sequences", lambda *_, **__: next(calls) < tokens):
        yield


if __name__ == "__main__":
    main()
