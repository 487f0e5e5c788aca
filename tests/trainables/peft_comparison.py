"""PEFT's variants of LoRA, to compare ours with: on the same tiny models, trained on the same examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling import base_model, target_modules
from autorank.spec import TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables import conformance_runs, reference_training

STEPS = 8


def tiny_base(folder: Path, architecture: str) -> tuple[base_model.BaseModel, list[str]]:
    """A tiny model without dropout, and the names of its linear layers."""
    base = base_model.load(tiny_models.model(architecture, folder / "model"), outputs=2)
    base.model.config.pad_token_id = 0
    base.reset(seed=0)
    draw = torch.Generator().manual_seed(5)
    for name, parameter in base.model.named_parameters():
        if name.endswith("bias"):  # zero in new models
            parameter.data.normal_(0, 0.3, generator=draw)
    for module in base.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    base.model.save_pretrained(folder / "model")
    return base, list(target_modules.find(base.model, "all-linear"))


def tiny_model(folder: Path, architecture: str) -> tuple[Any, list[str]]:
    base, names = tiny_base(folder, architecture)
    return base.model, names


def wrap(model: nn.Module, config: Any) -> Any:
    from peft import get_peft_model

    return get_peft_model(model, config)  # type: ignore[arg-type]


def copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone())


class PeftTraining:
    """PEFT's model in a plain training loop, with the initial A and B of our run."""

    def __init__(
        self, train_spec: TrainSpec, run: TrainingRun, config: Callable[[list[str]], Any], copy_start: bool,
        undecayed: tuple[str, ...],
    ) -> None:  # fmt: skip
        assert train_spec.model is not None and train_spec.training.steps is not None
        self.train_spec = train_spec
        base = base_model.load(train_spec.model, outputs=2)
        base.reset(train_spec.training.seed)
        updates = reference_training.updates(run)
        self.model = wrap(base.model, config(list(updates)))
        self.layers: dict[str, Any] = {name: base.model.get_submodule(name) for name in updates}
        for name, update in updates.items() if copy_start else ():
            self.layers[name].lora_A["default"].weight.data.copy_(update.A.data)
            self.layers[name].lora_B["default"].weight.data.copy_(update.B.data)
        for name in base.head:
            base.model.get_parameter(name).requires_grad_(True)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        exempt = {name for name in self.trained if name.endswith("bias") or any(part in name for part in undecayed)}
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for name, p in self.trained.items() if name not in exempt],
                    "weight_decay": train_spec.training.weight_decay,
                },
                {"params": [self.trained[name] for name in exempt], "weight_decay": 0.0},
            ]
        )

    def step(self, step: int, batch: dict[str, Tensor], factor: float) -> float:
        self.model.train()
        labels = batch.pop("labels")
        loss = nn.functional.cross_entropy(self.model(**batch).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.train_spec.training.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.train_spec.settings["learning_rate"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def train(
    folder: Path, method: str, settings: dict[str, Any], config: Callable[[list[str]], Any], copy_start: bool = True,
    undecayed: tuple[str, ...] = (),
) -> tuple[TrainingRun, PeftTraining]:  # fmt: skip
    """Train both for STEPS steps with the same random numbers in each step; their losses agree to 1e-4.

    `undecayed` are parts of the names of PEFT's parameters that have no weight decay.
    """
    from autorank.tasks.data.batches import collate

    train_spec = reference_training.spec(folder, method, settings, steps=STEPS, weight_decay=0.1)
    run = conformance_runs.open_run(train_spec)
    peft_training = PeftTraining(train_spec, run, config, copy_start, undecayed)
    for step in range(STEPS):
        batch = collate(run._data.train, run._loop.batch(step), run._data.pad_id)
        factor = float(run._loop.optimizer.factor(step, torch.tensor(0)))
        torch.manual_seed(step)
        expected = peft_training.step(step, batch, factor)
        torch.manual_seed(step)
        run.train_step()
        assert abs(float(run._losses[-1]) - expected) <= 1e-4 * abs(expected)
    return run, peft_training
