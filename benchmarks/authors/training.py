"""Training with the authors' layers, allocators, penalties, optimizer and schedule, in the order of their trainers.

Initial values and random draws are those of our methods, so both implementations start with the same values.
"""

from __future__ import annotations

import contextlib
import io
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.modeling.layers.position_queries import exclude_position_queries, has_update_on_position_queries
from benchmarks.authors.code_loader import TRAINER, functions, layers_code, optimization_code

Draw = Callable[[int, int, int], tuple[Tensor, Tensor]]  # rank, in, out -> A, B


@dataclass(frozen=True)
class Setup:
    """What both implementations share.

    Attributes:
        starts: Layer name -> initial A and B.
        draw: Repeats the random draws of our method, in the same order.
        settings: The method's settings.
        steps: Optimizer steps.
        warmup: Steps of the warm-up.
        learning_rate: Peak learning rate.
    """

    starts: dict[str, tuple[Tensor, Tensor]]
    draw: Draw
    settings: dict[str, Any]
    steps: int
    warmup: int
    learning_rate: float


class AuthorsTraining:
    """The authors' layers in a model, trained in the order of their trainer.

    Args:
        repository: The clone of the authors' repository.
        model: The model, of which only the head requires gradients.
        setup: What both implementations share.

    Attributes:
        layers: Layer name -> the authors' layer, in the model's order.
    """

    def __init__(self, repository: Path, model: nn.Module, setup: Setup) -> None:
        self.code, self.setup, self.model = layers_code(repository), setup, model
        self.layers: dict[str, Any] = {}
        head = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for name, (A, B) in setup.starts.items():
            self.layers[name] = self._replace(name, A, B)
        trained = {n: p for n, p in model.named_parameters() if "lora_" in n or n in head}
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name in trained
        self.optimization = optimization_code(repository)
        self.optimizer = self.optimization.AdamW(list(trained.values()), lr=setup.learning_rate, eps=1e-8)

        def norm(*args: Any, **options: Any) -> Tensor:
            return torch.norm(*args, **options).clone()  # the penalty adds in place, which torch no longer allows

        torch_with_norm = types.SimpleNamespace(**vars(torch) | {"norm": norm})
        scope = {"torch": torch_with_norm, "lora": self.code}
        self._penalty = functions(repository / TRAINER / "trainer.py", ["compute_svd_orth_regu"], scope)
        self.allocator = self._allocator()

    def _replace(self, name: str, A: Tensor, B: Tensor) -> Any:
        parent, _, child = name.rpartition(".")
        owner = self.model.get_submodule(parent)
        original = getattr(owner, child)
        replacement = self._layer(original, len(A))
        replacement.weight.data.copy_(original.weight)
        replacement.bias.data.copy_(original.bias)
        self._start(replacement, A, B)
        setattr(owner, child, replacement)
        if has_update_on_position_queries(owner, child):
            replacement.base = original
            exclude_position_queries(owner)
        return replacement

    def _layer(self, old: nn.Linear, rank: int) -> Any:
        alpha = self.setup.settings["alpha"]
        return self.code.SVDLinear(old.in_features, old.out_features, r=rank, lora_alpha=alpha, merge_weights=False)

    def step(self, number: int, batch: dict[str, Tensor]) -> float:
        """Run one step of the trainer; returns the loss without the penalty."""
        self.model.train()
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        loss = F.cross_entropy(self.model(**inputs).logits, batch["labels"])
        penalty = self._penalty["compute_svd_orth_regu"](None, self.model)
        (loss + self.setup.settings["orthogonality"] * penalty).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        with contextlib.redirect_stdout(io.StringIO()):
            self.update(number)
        self.model.zero_grad()
        return loss.item()

    def _start(self, layer: Any, A: Tensor, B: Tensor) -> None:
        raise NotImplementedError

    def _allocator(self) -> Any:
        raise NotImplementedError

    def update(self, number: int) -> None:
        """Run allocator, optimizer and schedule in the trainer's order; the gradients are clipped already."""
        raise NotImplementedError


class AuthorsIncreLoRA(AuthorsTraining):
    """IncreLoRA's layers, allocator, penalty and schedule."""

    def _layer(self, old: nn.Linear, rank: int) -> Any:
        layer = super()._layer(old, rank)
        original = layer.add_reserve_param

        def add_reserve_param(count: int, advance_learn: bool = True) -> None:
            original(count, advance_learn)
            A, B = self.setup.draw(count, old.in_features, old.out_features)
            for i in range(count):
                layer.lora_A[i - count].data.copy_(A[i : i + 1])
                layer.lora_B[i - count].data.copy_(B[:, i : i + 1])

        layer.add_reserve_param = add_reserve_param
        return layer

    def _start(self, layer: Any, A: Tensor, B: Tensor) -> None:
        layer.lora_A[0].data.copy_(A)
        layer.lora_B[0].data.copy_(B)

    def _allocator(self) -> Any:
        settings, setup = self.setup.settings, self.setup
        get_curve = self.optimization.get_lr_lambda
        curve = get_curve(setup.warmup, setup.steps)
        if settings["schedule"] == "restart":
            schedule = self.optimization.Multi_LambdaLR(self.optimizer, get_curve, setup.warmup, setup.steps)
            self._schedule: Callable[[int], None] = lambda number: schedule.step()
        else:  # without restarts the authors use torch 1.11's LambdaLR, which ignores groups added later
            initial_groups = list(self.optimizer.param_groups)

            def set_rates(number: int) -> None:
                for group in initial_groups:
                    group["lr"] = setup.learning_rate * curve(number + 1)

            set_rates(-1)
            self._schedule = set_rates
        return self.code.RankAllocator(
            self.model, lora_r=1, target_rank=settings["mean_rank"], init_warmup=settings["interval"],
            incre_interval=settings["interval"], top_h=settings["top_h"], advance_learn=settings["advance_learning"],
            beta1=settings["beta1"], beta2=settings["beta2"], weight_decay=0.0, incre_rank_num=settings["components"],
        )  # fmt: skip

    def update(self, number: int) -> None:
        self.allocator.update_and_increase(self.model, number, self.optimizer)
        self.optimizer.step()
        self._schedule(number)

    @property
    def ranks(self) -> list[int]:
        """Rank of each layer."""
        return [round(layer.ranknum.item()) for layer in self.layers.values()]

    @property
    def scores(self) -> tuple[Tensor, Tensor]:
        """Smoothed importance and uncertainty of each layer."""
        averages = self.allocator.exp_avg_ipt, self.allocator.exp_avg_unc
        smoothed, uncertainty = (torch.tensor([float(average[name]) for name in self.layers]) for average in averages)
        return smoothed, uncertainty


class AuthorsAdaLoRA(AuthorsTraining):
    """AdaLoRA's layers, allocator and penalty."""

    def _start(self, layer: Any, A: Tensor, B: Tensor) -> None:
        layer.lora_A.data.copy_(A)
        layer.lora_B.data.copy_(B)

    def _allocator(self) -> Any:
        settings, setup = self.setup.settings, self.setup

        def curve(step: int) -> float:
            falling = (setup.steps - step) / (setup.steps - setup.warmup)
            return step / setup.warmup if step < setup.warmup else falling

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, curve)
        return self.code.RankAllocator(
            self.model, lora_r=0, target_rank=settings["mean_rank"], total_step=setup.steps,
            init_warmup=int(settings["initial"] * setup.steps), final_warmup=int(settings["final"] * setup.steps),
            mask_interval=settings["interval"], beta1=settings["beta1"], beta2=settings["beta2"],
        )  # fmt: skip

    def update(self, number: int) -> None:
        self.optimizer.step()
        self._schedule.step()
        self.allocator.update_and_mask(self.model, number)

    @property
    def ranks(self) -> list[int]:
        """Number of triplets of each layer whose e is not zero."""
        return [int(layer.lora_E.count_nonzero()) for layer in self.layers.values()]
