"""Plain training for reference implementations: every ΔW is a tensor of the graph, without any optimization.

A reference gets only its examples and its fresh base and head from the code under test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autorank.modeling import adapters, base_model
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun
from tests import tiny_models

GAIN = 8  # times the usual 0.02: keeps attention and gradients of so narrow a model above rounding errors
CONFIG = {
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pooler_dropout": 0.0, "cls_dropout": 0.0,
    "initializer_range": 0.02 * GAIN,
}  # fmt: skip


def write(folder: Path, architecture: str = "bert") -> Path:
    """A tiny model without dropout, and examples to train it on."""
    model = folder / "model"
    tiny_models.model(architecture, model)
    tiny_models.update_config(model, **CONFIG)
    weights = load_file(model / "model.safetensors")
    scaled = {name: w * GAIN if w.ndim == 2 else w for name, w in weights.items()}
    save_file(scaled, model / "model.safetensors", {"format": "pt"})
    tiny_models.pairs_folder(folder / "data", 91)  # the last batch is odd
    return folder


def spec(folder: Path, method: str, settings: dict[str, Any], **training: Any) -> TrainSpec:
    """A run over `write`'s directory that evaluates after every step."""
    defaults = {"batch_size": 16, "warmup_ratio": 0.1, "weight_decay": 0.0, "eval_every": 1, "precision": "fp32"}
    return TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "model"),
        method=method,
        settings={"targets": "all-linear", "learning_rate": 1e-2} | settings,
        training=TrainingSpec(**defaults | training),
    )


class ReferenceLinear(nn.Module):
    """A frozen layer plus ΔW x.

    Attributes:
        delta: ΔW in the first call of a forward pass, out x in.
        later: ΔW in further calls; DeBERTa passes the positions through the query and key projections.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base = layer
        self.use(None, None)

    def use(self, delta: Tensor | None, later: Tensor | None) -> None:
        """Set ΔW for the next forward pass."""
        self.delta, self.later, self.called = delta, later, False

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        delta, self.called = self.later if self.called else self.delta, True
        return y if delta is None else y + x @ delta.T

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor:
        return self.base.bias


class Steps(Protocol):
    """A training that `lockstep` compares with a run."""

    def step(self, step: int, batches: list[dict[str, Tensor]]) -> float: ...


class ReferenceTraining:
    """A training in plain PyTorch; subclasses define ΔW and what happens around a step.

    Attributes:
        layers: Name -> layer, in the model's order.
        optimizer: AdamW; `factor` uses the `start` of each parameter group, the step at which its warm-up begins.
    """

    gamma: float

    def __init__(self, train_spec: TrainSpec) -> None:
        self.training = train_spec.training
        self.settings = train_spec.settings
        assert train_spec.training.steps is not None and train_spec.model is not None
        self.total_steps = train_spec.training.steps
        self.warmup_steps = math.ceil(train_spec.training.warmup_ratio * self.total_steps)
        base = base_model.load(train_spec.model, outputs=2)
        base.reset(train_spec.training.seed)
        self.model = base.model
        self.layers: dict[str, ReferenceLinear] = {}
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.Linear) and re.search(r"\.layer\.\d+\.", name):
                parent, _, child = name.rpartition(".")
                self.layers[name] = ReferenceLinear(module)
                setattr(self.model.get_submodule(parent), child, self.layers[name])
        self.head = {name: self.model.get_parameter(name) for name in base.head}
        decayed = [p for name, p in self.head.items() if not name.endswith("bias")]
        biases = [p for name, p in self.head.items() if name.endswith("bias")]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "start": 0}, {"params": biases, "start": 0, "weight_decay": 0.0}],
            betas=(0.9, 0.999), eps=1e-8, weight_decay=self.training.weight_decay, foreach=False,
        )  # fmt: skip
        self.generator = torch.Generator().manual_seed(train_spec.training.seed)

    def draw(self, layer: ReferenceLinear, rows: int) -> tuple[Tensor, Tensor]:
        """Draw a new A, rows x in, and B, out x rows."""
        A = torch.empty(rows, layer.base.in_features).normal_(0, 0.02, generator=self.generator)
        B = torch.empty(layer.base.out_features, rows).normal_(0, 0.02, generator=self.generator)
        return A, B

    def train(self, parameters: list[nn.Parameter], start: int) -> None:
        self.optimizer.add_param_group({"params": parameters, "start": start})

    def set_rates(self, step: int) -> None:
        """Set the learning rates of this step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["learning_rate"] * self.factor(step, group["start"])

    def adjust_epsilon(self) -> None:
        """Set the ε that equals 1e-8 added before the bias correction of the second moment."""
        for group in self.optimizer.param_groups:
            steps = [int(self.optimizer.state[p].get("step", 0)) for p in group["params"] if p.grad is not None]
            group["eps"] = 1e-8 / math.sqrt(1 - 0.999 ** (max(steps, default=0) + 1))

    def factor(self, step: int, start: int) -> float:
        local = step - start
        if local < self.warmup_steps:
            return local / self.warmup_steps
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - start - self.warmup_steps))

    def step(self, step: int, batches: list[dict[str, Tensor]]) -> float:
        """One optimizer step over its micro-batches; returns the mean loss without the penalty."""
        self.model.train()
        examples = sum(len(batch["labels"]) for batch in batches)
        gradients = {name: torch.zeros_like(layer.base.weight) for name, layer in self.layers.items()}
        mean = 0.0
        for batch in batches:
            for name, layer in self.layers.items():
                delta = self.delta_weight(name)
                delta.retain_grad()
                layer.use(delta, self.later(name, delta))
            inputs = {name: values for name, values in batch.items() if name != "labels"}
            loss = F.cross_entropy(self.model(**inputs).logits, batch["labels"])
            loss = loss * len(batch["labels"]) / examples
            loss.backward()
            mean += loss.item()
            for name, layer in self.layers.items():
                assert layer.delta is not None and layer.delta.grad is not None
                gradients[name] += layer.delta.grad
        deltas = {name: self.delta_weight(name).detach() for name in self.layers}
        (self.gamma * self.orthogonality()).backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.training.max_grad_norm)
        self.before_step(step, deltas, gradients)
        self.set_rates(step)
        if self.settings.get("published"):
            self.adjust_epsilon()
        self.optimizer.step()
        self.after_step(step)
        self.optimizer.zero_grad()
        return mean

    @torch.no_grad()
    def evaluate(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits in evaluation, batch x 2."""
        self.model.eval()
        for name, layer in self.layers.items():
            delta = self.evaluated(name)
            layer.use(delta, self.later(name, delta))
        logits: Tensor = self.model(**{name: values for name, values in batch.items() if name != "labels"}).logits
        return logits

    def orthogonality(self) -> Tensor:
        """Mean of ‖AAᵀ - I‖ and ‖BᵀB - I‖ over the layers that have a rank."""
        norms = []
        for name in self.layers:
            A, B = self.factors(name)
            if len(A):
                norms.append((A @ A.T - torch.eye(len(A))).square().sum().sqrt())
                norms.append((B.T @ B - torch.eye(len(A))).square().sum().sqrt())
        return torch.stack(norms).mean()

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        """All of a layer's A, rank x in, and B, out x rank."""
        raise NotImplementedError

    def delta_weight(self, name: str) -> Tensor:
        """The layer's ΔW in training, out x in."""
        raise NotImplementedError

    def later(self, name: str, delta: Tensor) -> Tensor | None:
        """ΔW in further calls of a forward pass whose first call uses `delta`.

        As published, position queries have none, and position keys have a ΔW with a separate gradient.
        """
        if not self.settings.get("published"):
            return delta
        if name.endswith("query_proj"):
            return None
        return self.delta_weight(name) if delta.requires_grad else delta

    def evaluated(self, name: str) -> Tensor:
        """The layer's ΔW in evaluation, out x in; by default that in training."""
        return self.delta_weight(name).detach()

    def before_step(self, step: int, deltas: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        """Called after the backward passes, with `gradients`: dL/dΔW of the task's loss, out x in."""

    def after_step(self, step: int) -> None:
        """Called after the optimizer step, before the clipped gradients are cleared."""


def lockstep(run: TrainingRun, reference: Steps, rtol: float = 1e-4) -> Iterator[Evaluation]:
    """Train both on the same examples, one step at a time; their losses agree to `rtol`."""
    for evaluation in run:
        batch = run._loop.batch(evaluation.step - 1)
        parts = np.array_split(batch, run._loop.plan.accumulate)
        batches = [collate(run._data.train, part, run._data.pad_id) for part in parts]
        loss = reference.step(evaluation.step - 1, batches)
        np.testing.assert_allclose(evaluation.train_loss, loss, rtol=rtol)
        yield evaluation


def validation(run: TrainingRun) -> dict[str, Tensor]:
    """All validation examples as one batch."""
    (split,) = run._data.validation.values()
    return collate(split, np.arange(len(split)), run._data.pad_id)


def updates(run: TrainingRun) -> dict[str, Any]:
    """Layer name -> the update that the code under test trains."""
    return {name: layer.update for name, layer in adapters.adapted(run._base.model).items()}
