"""PEFT's own variants of LoRA beside ours: on the same tiny models, and trained on the same examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling import base_model, target_modules
from autorank.spec import TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny
from tests.trainables import slow

STEPS = 8


def tiny_base(folder: Path, architecture: str) -> tuple[base_model.BaseModel, list[str]]:
    """A tiny model without dropout of its own, and the names of its linear layers."""
    loaded = base_model.load(tiny.model(architecture, folder / "model"), outputs=2)
    loaded.model.config.pad_token_id = 0
    loaded.reset(seed=0)
    draw = torch.Generator().manual_seed(5)
    for name, parameter in loaded.model.named_parameters():
        if name.endswith("bias"):  # of new models they are zero
            parameter.data.normal_(0, 0.3, generator=draw)
    for module in loaded.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    loaded.model.save_pretrained(folder / "model")
    return loaded, list(target_modules.find(loaded.model, "all-linear"))


def loaded(folder: Path, architecture: str) -> tuple[Any, list[str]]:
    loaded, names = tiny_base(folder, architecture)
    return loaded.model, names


def wrap(model: nn.Module, config: Any) -> Any:
    from peft import get_peft_model

    return get_peft_model(model, config)  # type: ignore[arg-type]


def copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone())


class PeftTraining:
    """PEFT's model in a plain loop, its A and B from our run's start."""

    def __init__(self, wanted: TrainSpec, ours: TrainingRun, config: Callable[[list[str]], Any], copied: bool) -> None:
        assert wanted.model is not None and wanted.training.steps is not None
        self.wanted = wanted
        loaded = base_model.load(wanted.model, outputs=2)
        loaded.reset(wanted.training.seed)
        started = slow.updates(ours)
        self.model = wrap(loaded.model, config(list(started)))
        self.layers: dict[str, Any] = {name: loaded.model.get_submodule(name) for name in started}
        for name, update in started.items() if copied else ():
            self.layers[name].lora_A["default"].weight.data.copy_(update.A.data)
            self.layers[name].lora_B["default"].weight.data.copy_(update.B.data)
        for name in loaded.head:
            loaded.model.get_parameter(name).requires_grad_(True)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        biases = [p for name, p in self.trained.items() if name.endswith("bias")]
        rest = [p for name, p in self.trained.items() if not name.endswith("bias")]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest, "weight_decay": wanted.training.weight_decay}, {"params": biases, "weight_decay": 0.0}]
        )

    def step(self, step: int, batch: dict[str, Tensor], factor: float) -> float:
        self.model.train()
        labels = batch.pop("labels")
        loss = nn.functional.cross_entropy(self.model(**batch).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.wanted.training.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.wanted.settings["learning_rate"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def train(
    folder: Path, method: str, settings: dict[str, Any], config: Callable[[list[str]], Any], copied: bool = True
) -> tuple[TrainingRun, PeftTraining]:
    """STEPS steps of both, each step's random numbers the same; their losses agree to 1e-4."""
    from autorank.tasks.data.batches import collate

    wanted = slow.spec(folder, method, settings, steps=STEPS, weight_decay=0.1)
    run = TrainingRun(wanted)
    run._open(), run._start()
    theirs = PeftTraining(wanted, run, config, copied)
    for step in range(STEPS):
        batch = collate(run._data.train, run._phase.batch(step), run._data.pad_id)
        factor = float(run._phase.optimizer.factor(step, torch.tensor(0)))
        torch.manual_seed(step)
        expected = theirs.step(step, batch, factor)
        torch.manual_seed(step)
        run._train_step()
        assert abs(float(run._losses[-1]) - expected) <= 1e-4 * abs(expected)
    return run, theirs
