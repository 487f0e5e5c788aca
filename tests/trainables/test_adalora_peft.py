"""AdaLoRA against PEFT's, up to and including the step at which masked triplets are dropped.

Three differences are removed: PEFT gets the step as the number of finished steps, its orthogonality weight is set, and
the 1e-5 in its scale is undone. PEFT keeps regularizing masked triplets, so the trainings differ after the drop.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autorank.modeling import base_model
from autorank.spec import TrainSpec
from autorank.training.run import TrainingRun
from tests.trainables import reference_training
from tests.trainables.reference_adalora import ReferenceAdaLoRA

pytestmark = pytest.mark.usefixtures("own_cache")

STEPS = 50
SETTINGS = {"mean_rank": 2, "start_ratio": 2.0, "initial": 0.1, "final": 0.3, "interval": 2, "alpha": 16}
DROP = STEPS - int(0.3 * STEPS)


class PeftTraining:
    """PEFT's AdaLoRA in the training loop of its documentation, from the initial values of `start`."""

    def __init__(self, train_spec: TrainSpec, start: ReferenceAdaLoRA) -> None:
        from peft import AdaLoraConfig, get_peft_model

        assert train_spec.model is not None
        self.start, self.training = start, train_spec.training
        base = base_model.load(train_spec.model, outputs=2)
        base.reset(train_spec.training.seed)
        s = start.settings
        self.config = AdaLoraConfig(
            init_r=start.rank, target_r=s["mean_rank"], tinit=start.t_init, tfinal=start.total_steps - start.t_drop,
            deltaT=s["interval"], beta1=s["beta1"], beta2=s["beta2"], orth_reg_weight=s["orthogonality"],
            lora_alpha=s["alpha"], lora_dropout=0.0, total_step=start.total_steps, target_modules=list(start.layers),
        )  # fmt: skip
        self.model: Any = get_peft_model(base.model, self.config)
        self.layers: dict[str, Any] = {name: base.model.get_submodule(name) for name in start.layers}
        for name, layer in self.layers.items():
            layer.lora_A["default"].data.copy_(start.A[name])
            layer.lora_B["default"].data.copy_(start.B[name])
            layer.ranknum["default"].data -= 1e-5
        for name in base.head:
            base.model.get_parameter(name).requires_grad_(True)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        biases = [p for name, p in trained.items() if name.endswith("bias")]
        decayed = [p for name, p in trained.items() if not name.endswith("bias")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": train_spec.training.weight_decay},
                {"params": biases, "weight_decay": 0.0},
            ]
        )

    def step(self, step: int, batches: list[dict[str, Tensor]]) -> float:
        self.model.train()
        (batch,) = batches
        # with labels, so that the loss includes the regularizer; PeftModel.forward without a task type leaves it out
        outputs = self.model.base_model(**batch)
        outputs.loss.backward()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, self.training.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.start.settings["learning_rate"] * self.start.factor(step, 0)
        self.optimizer.step()
        self.model.base_model.update_and_allocate(step)
        self.optimizer.zero_grad()
        return torch.nn.functional.cross_entropy(outputs.logits, batch["labels"]).item()

    def e(self) -> dict[str, Tensor]:
        return {name: layer.lora_E["default"].detach().flatten() for name, layer in self.layers.items()}


def adalora_spec(folder: Path, settings: dict[str, Any]) -> TrainSpec:
    return reference_training.spec(folder, "adalora", SETTINGS | settings, steps=STEPS, weight_decay=0.1)


VARIANTS = [{}, {"interval": 1, "orthogonality": 0.3}, {"mean_rank": 1, "learning_rate": 3e-2}]


@pytest.mark.parametrize("settings", VARIANTS)
def test_masks_equal_pefts(settings: dict[str, Any], bert: Path) -> None:
    spec = adalora_spec(bert, settings)
    peft_training = PeftTraining(spec, ReferenceAdaLoRA(spec))
    run = TrainingRun(spec)
    masks = 0
    for evaluation in reference_training.lockstep(run, peft_training):
        updates = reference_training.updates(run)
        if evaluation.step - 1 == DROP:
            break
        for name, e in peft_training.e().items():
            assert torch.equal(updates[name].e == 0, e == 0), f"{name}, after step {evaluation.step}"
            torch.testing.assert_close(updates[name].e.detach(), e, rtol=1e-3, atol=1e-5)
        masks += any((e == 0).any() for e in peft_training.e().values())
    assert masks > 3
    assert {name: update.rank for name, update in updates.items()} == {
        name: sum(pattern) for name, pattern in patterns(peft_training).items()
    }
    for name, pattern in patterns(peft_training).items():
        torch.testing.assert_close(updates[name].e.detach(), peft_training.e()[name][pattern], rtol=1e-3, atol=1e-5)
    assert sum(evaluation.ranks.values()) == spec.settings["mean_rank"] * len(updates)


def patterns(peft_training: PeftTraining) -> dict[str, list[bool]]:
    """Layer name -> which triplets PEFT keeps at the end."""
    assert peft_training.config.rank_pattern is not None
    return {name: peft_training.config.rank_pattern[f"{name}.lora_E.default"] for name in peft_training.layers}


def test_the_reference_equals_peft(bert: Path) -> None:
    """Our plain reference and PEFT agree with each other."""
    from autorank import tasks
    from autorank.tasks.data.batches import collate, epoch_batches

    spec = adalora_spec(bert, {})
    assert spec.model is not None
    reference = ReferenceAdaLoRA(spec)
    peft_training = PeftTraining(spec, reference)
    data = tasks.load(spec.task, spec.model)
    epoch = math.ceil(len(data.train) / 16)
    for step in range(DROP + 1):
        examples = epoch_batches(data.train.lengths, 16, 0, step // epoch)[step % epoch]
        batches = [collate(data.train, examples, data.pad_id)]
        np.testing.assert_allclose(reference.step(step, batches), peft_training.step(step, batches), rtol=1e-5)
        for name, e in peft_training.e().items():
            if step < DROP:
                assert torch.equal(reference.e[name] == 0, e == 0)
            remaining = reference.remaining[name]
            torch.testing.assert_close(reference.e[name].detach()[remaining], e[remaining], rtol=1e-5, atol=1e-6)
    assert patterns(peft_training) == {
        name: [i in remaining for i in range(reference.rank)] for name, remaining in reference.remaining.items()
    }
    assert set(reference.budgets) == {*range(6, DROP + 1)[::2], DROP}
