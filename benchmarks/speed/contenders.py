"""Training steps that `benchmarks.speed.step_time` compares: our methods and PEFT's, on a model with random weights."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.methods import configure
from autorank.modeling import adapters, target_modules
from autorank.modeling.base_model import BaseModel, widen_norms
from autorank.modeling.forward.attention_masks import Form
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.run_context import RunContext
from autorank.tasks import TASKS
from autorank.tasks.data.batches import collate
from autorank.tasks.definition import TaskData
from autorank.tasks.splits.tokenized import Split
from autorank.training.objectives.labels import ClassificationObjective
from autorank.training.optimization.hooks import MethodHooks
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.optimization.plan import Plan
from trainables.growth_schedule import GrowthConfig, GrowthSchedule

SHAPES = {  # hidden, layers, heads, intermediate
    "minilm": (384, 6, 12, 1536),
    "roberta-base": (768, 12, 12, 3072),
    "deberta-v3-base": (768, 12, 12, 3072),
}
BASELINE, PEFT_DORA, PEFT_ADALORA = "peft lora", "peft dora", "peft adalora"
SCORED = 13 * 40 / 3450  # share of the steps in which IncreLoRA's published schedule for MRPC computes scores
METHODS = ["lora", "prilora", "adalora", "increlora"]
COMPILED = "lora compiled"  # its forward pass by torch.compile, on a GPU with CUDA graphs
ALPHA = 16.0
Step = Callable[[int], Tensor]


def make(name: str, arguments: argparse.Namespace, device: torch.device) -> Step:
    """Create the training step of a contender."""
    plan = Plan(
        learning_rate=1e-3, batch_size=arguments.batch, accumulate=1, epochs=1, steps=arguments.steps,
        warmup_ratio=0.0, weight_decay=0.1, max_grad_norm=1.0, precision=arguments.precision, seed=0,
    )  # fmt: skip
    split = examples(arguments.batch, arguments.length)
    with device:
        base = random_base(arguments.shape, arguments.precision)
    base.reset(seed=0)
    if name in (BASELINE, PEFT_DORA, PEFT_ADALORA):
        return peft_step(name, base, arguments, plan, split, device)
    widen_norms(base.model)
    return our_step(name, base, arguments, plan, split, device)


def settings(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of a method for a schedule of `arguments.steps`."""
    common: dict[str, Any] = {"targets": arguments.targets, "alpha": ALPHA}
    if name in ("lora", "dora"):
        return common | {"rank": arguments.rank}
    common["mean_rank"] = arguments.rank
    if name == "increlora":
        common["score_window"] = math.ceil(SCORED * arguments.steps / growth(arguments).rounds)
    return common


def growth(arguments: argparse.Namespace) -> GrowthSchedule:
    """IncreLoRA's default schedule."""
    layers = len(layers_without_weights(arguments))
    return GrowthSchedule.plan(GrowthConfig(mean_rank=arguments.rank), layers, arguments.steps)


def layers_without_weights(arguments: argparse.Namespace) -> dict[str, nn.Module]:
    """The adapted layers by name, on the meta device."""
    with torch.device("meta"):
        return target_modules.find(random_base(arguments.shape, "fp32").model, arguments.targets)


def first_allocation(arguments: argparse.Namespace) -> int:
    """The step of IncreLoRA's first allocation."""
    return growth(arguments).due(0)


def scored_share(arguments: argparse.Namespace) -> float:
    """Share of the steps in which IncreLoRA computes scores."""
    rounds = growth(arguments).rounds
    return rounds * math.ceil(SCORED * arguments.steps / rounds) / arguments.steps


def our_step(
    name: str, base: BaseModel, arguments: argparse.Namespace, plan: Plan, split: Split, device: torch.device
) -> Step:
    """The training step of one of our methods, in our training loop."""
    form: Form = "tokens" if arguments.shape.startswith("deberta") else "keys"
    objective = ClassificationObjective(TaskData(TASKS["mrpc"], split, {}, digest="", pad_id=0))
    loop = OptimizationLoop(base.model, split, np.arange(len(split)), 0, objective, plan, device, mask_form=form)
    run = RunContext(
        base=base,
        layers=target_modules.find(base.model, arguments.targets),
        generator=torch.Generator().manual_seed(0),
        device=device,
        seed=0,
        labels=split.labels,
        weights=split.weights,
        total_steps=arguments.steps,
        warmup_steps=loop.warmup_steps,
        cache=Path(),
        key="",
        train_on=no_probe,
        observe=no_probe,
        gradients=no_probe,
        optimizer=loop.optimizer,
    )
    method = configure(name.split()[0], settings(name.split()[0], arguments))
    method.prepare(run)
    loop.train_rest()
    if name == COMPILED:
        base.model.compile(mode="reduce-overhead" if device.type == "cuda" else None)
    if device.type == "cuda" and plan.precision != "fp32":
        adapters.share_conversions(base.model)
    hooks = MethodHooks(method, run)

    def step(number: int) -> Tensor:
        run.step = number
        return loop.step(number, hooks)

    return step


def no_probe(*_: Any) -> None:
    raise NotImplementedError("methods that train a probe first are not timed here")


def peft_step(
    name: str, base: BaseModel, arguments: argparse.Namespace, plan: Plan, split: Split, device: torch.device
) -> Step:
    """A training step as in PEFT's examples, with the same schedule, clipping and fused AdamW."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    layers = target_modules.find(base.model, arguments.targets)
    if name != PEFT_ADALORA:
        config = LoraConfig(
            task_type="SEQ_CLS", r=arguments.rank, lora_alpha=ALPHA, target_modules=list(layers),
            use_dora=name == PEFT_DORA,
        )  # fmt: skip
    else:
        total = arguments.steps
        config = AdaLoraConfig(
            task_type="SEQ_CLS", init_r=round(1.5 * arguments.rank), target_r=arguments.rank, total_step=total,
            tinit=int(0.15 * total), tfinal=int(0.5 * total), deltaT=10, orth_reg_weight=0.1, lora_alpha=ALPHA,
            target_modules=list(layers),
        )  # fmt: skip
    model: Any = get_peft_model(base.model, config).to(device)
    if name == BASELINE:
        use_our_initial_values(model, arguments)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in trained if n.endswith("bias") == bias], "weight_decay": 0.0 if bias else 0.1}
        for bias in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / arguments.steps)

    def step(number: int) -> Tensor:
        model.train()
        batch = {n: v.to(device) for n, v in collate(split, np.arange(len(split)), 0).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            if name != PEFT_ADALORA:
                labels = batch.pop("labels")
                loss = F.cross_entropy(model(**batch).logits.float(), labels)
            else:
                loss = model(**batch).loss  # with labels, so that PEFT adds its orthogonality penalty
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], plan.max_grad_norm)
        optimizer.step()
        if name == PEFT_ADALORA:
            model.base_model.update_and_allocate(number)
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def use_our_initial_values(model: Any, arguments: argparse.Namespace) -> None:
    """Give PEFT's LoRA the initial values of our LoRA."""
    generator = torch.Generator().manual_seed(0)
    for name, layer in layers_without_weights(arguments).items():
        update = LowRankUpdate.lora(*target_modules.features(layer), arguments.rank, ALPHA, generator)
        with torch.no_grad():
            model.base_model.model.get_submodule(name).lora_A["default"].weight.copy_(update.A)


def examples(batch: int, length: int) -> Split:
    """One batch of random tokens, all examples of the same length."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 1000, batch * length).astype(np.int32)
    return Split(ids, None, np.arange(0, batch * length + 1, length), rng.integers(0, 2, batch))


def random_base(shape: str, precision: str) -> BaseModel:
    """A model of a shape with random weights, on which the time does not depend."""
    import transformers as t

    hidden, layers, heads, intermediate = SHAPES[shape]
    torch.manual_seed(0)
    common = dict(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    if shape.startswith("deberta"):
        model: Any = t.DebertaV2ForSequenceClassification(
            t.DebertaV2Config(
                **common, relative_attention=True, position_buckets=256, share_att_key=True, norm_rel_ebd="layer_norm",
                pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
            )
        )  # fmt: skip
    elif shape.startswith("roberta"):
        model = t.RobertaForSequenceClassification(t.RobertaConfig(**common, vocab_size=50265))
    else:
        model = t.BertForSequenceClassification(t.BertConfig(**common))
    head = tuple(name for name, _ in model.named_parameters() if name.startswith("classifier."))
    return BaseModel(model.to(torch.bfloat16 if precision == "bf16" else torch.float32), frozenset(head), head, 0.02)
