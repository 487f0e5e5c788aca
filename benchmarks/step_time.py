"""Time of a training step, ours over PEFT's: same model, rank, batch and optimizer, in one run.

    python benchmarks/step_time.py                                  # CPU or GPU, a BERT of MiniLM's size
    python benchmarks/step_time.py --shape roberta-base --batch 16 --length 64 --targets all-linear

The two take turns, step by step, so that a machine that slows down slows down both; the ratio is that of the medians.
Losses must be equal at every step, or it is no comparison.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.modeling import adapters, targets
from autorank.modeling.base import BaseModel
from autorank.modeling.low_rank import LowRankUpdate
from autorank.tasks.task import Split
from autorank.training.phase import Hooks, Phase, Plan

SHAPES = {  # hidden, layers, heads, intermediate
    "minilm": (384, 6, 12, 1536),
    "roberta-base": (768, 12, 12, 3072),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = arguments.precision or ("bf16" if device.type == "cuda" else "fp32")
    plan = Plan(
        learning_rate=1e-3, batch_size=arguments.batch, accumulate=1, epochs=1,
        steps=arguments.steps + arguments.warmup, warmup_ratio=0.0, weight_decay=0.1, max_grad_norm=1.0,
        precision=precision, seed=0,
    )  # fmt: skip
    split = examples(arguments.batch, arguments.length)
    ours, step_ours = make_ours(arguments, plan, split, device)
    theirs = make_peft(arguments, ours, device)
    step_theirs = peft_step(theirs, plan, split, device)
    times: dict[str, list[float]] = {"autorank": [], "peft": []}
    worst = 0.0
    for step in range(plan.steps or 0):
        losses = {}
        pair = [("autorank", step_ours), ("peft", step_theirs)]
        for name, run in pair if step % 2 else reversed(pair):
            seconds, losses[name] = timed(run, step, device)
            if step >= arguments.warmup:
                times[name].append(seconds)
        worst = max(worst, abs(losses["autorank"] - losses["peft"]))
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{machine}, {precision}, {arguments.shape}, rank {arguments.rank} on {arguments.targets}, "
          f"{arguments.batch} x {arguments.length} tokens, {len(times['peft'])} steps each")  # fmt: skip
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(f"{name:10} {1e3 * median:8.2f} ms a step (quartiles {1e3 * low:.2f} to {1e3 * high:.2f})")
    print(f"ratio {statistics.median(times['autorank']) / statistics.median(times['peft']):.3f}, "
          f"largest difference of losses {worst:.1e}")  # fmt: skip


def examples(batch: int, length: int) -> Split:
    """One batch of random tokens, all of one length."""
    draw = np.random.default_rng(0)
    ids = draw.integers(5, 1000, batch * length).astype(np.int32)
    return Split(ids, None, np.arange(0, batch * length + 1, length), draw.integers(0, 2, batch))


def random_bert(shape: str, precision: str) -> BaseModel:
    """BERT with random weights: the time does not depend on them."""
    from transformers import BertConfig, BertForSequenceClassification

    hidden, layers, heads, intermediate = SHAPES[shape]
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    head = tuple(name for name, _ in model.named_parameters() if name.startswith("classifier."))
    return BaseModel(model.to(torch.bfloat16 if precision == "bf16" else torch.float32), frozenset(head), head, 0.02)


def make_ours(
    arguments: argparse.Namespace, plan: Plan, split: Split, device: torch.device
) -> tuple[BaseModel, Callable[[int], Tensor]]:
    """The base with our LoRA on it, and its training step."""
    base = random_bert(arguments.shape, plan.precision)
    base.model.to(device)
    base.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, layer in targets.find(base.model, arguments.targets).items():
        update = LowRankUpdate.lora(*targets.features(layer), arguments.rank, 16, generator, device)
        adapters.attach(base.model, name, update)
    phase = Phase(base.model, split, np.arange(len(split)), 0, False, plan, device)
    phase.optimizer.add_group({n: p for n, p in base.model.named_parameters() if p.requires_grad})
    hooks = Hooks()
    return base, lambda step: phase.step(step, hooks)


def make_peft(arguments: argparse.Namespace, ours: BaseModel, device: torch.device) -> torch.nn.Module:
    """PEFT's LoRA on the same base, from the same initial values."""
    from peft import LoraConfig, get_peft_model

    base = random_bert(arguments.shape, "bf16" if ours.model.dtype == torch.bfloat16 else "fp32")
    base.reset(seed=0)
    layers = adapters.adapted(ours.model)
    config = LoraConfig(
        task_type="SEQ_CLS", r=arguments.rank, lora_alpha=16, lora_dropout=0.0, target_modules=list(layers)
    )
    model = get_peft_model(base.model, config).to(device)
    with torch.no_grad():
        for name, layer in layers.items():
            model.base_model.model.get_submodule(name).lora_A["default"].weight.copy_(layer.update.A)
    return model


def peft_step(
    model: torch.nn.Module, plan: Plan, split: Split, device: torch.device
) -> Callable[[int], Tensor]:
    """A plain training step as PEFT's examples have it, with the same schedule, clipping and fused AdamW."""
    from autorank.tasks.batches import collate

    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if not name.endswith("bias")]
    rest = [p for name, p in trained if name.endswith("bias")]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
    total = plan.steps or 1
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (total - step) / total)
    parameters = [p for _, p in trained]

    def run(step: int) -> Tensor:
        model.train()
        batch = {n: v.to(device) for n, v in collate(split, np.arange(len(split)), 0).items()}
        labels = batch.pop("labels")
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            logits = model(**batch).logits
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    return run


def timed(run: Callable[[int], Tensor], step: int, device: torch.device) -> tuple[float, float]:
    """Seconds and loss of a step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    loss = run(step)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, float(loss)


if __name__ == "__main__":
    main()
