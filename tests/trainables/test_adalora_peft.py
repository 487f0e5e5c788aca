"""AdaLoRA against PEFT's, up to and including the step at which the rest is dropped.

Made alike: PEFT is told the step as a number of steps done, its orthogonality weight is set, and the 1e-5 in its scale
is taken back. It keeps masked triplets in memory and goes on regularizing them, so trainings part after the drop.
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
from tests.trainables import slow
from tests.trainables.slow_adalora import SlowAdaLoRA

pytestmark = pytest.mark.usefixtures("own_cache")

STEPS = 50
SETTINGS = {"mean_rank": 2, "start_ratio": 2.0, "initial": 0.1, "final": 0.3, "interval": 2, "alpha": 16}
DROP = STEPS - int(0.3 * STEPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slow.write(tmp_path_factory.mktemp("peft"))


class PeftTraining:
    """PEFT's AdaLoRA in a loop as its documentation has it, from the initial values of `start`."""

    def __init__(self, wanted: TrainSpec, start: SlowAdaLoRA) -> None:
        from peft import AdaLoraConfig, get_peft_model

        assert wanted.model is not None
        self.start, self.training = start, wanted.training
        loaded = base_model.load(wanted.model, outputs=2)
        loaded.reset(wanted.training.seed)
        s = start.settings
        self.config = AdaLoraConfig(
            init_r=start.rank, target_r=s["mean_rank"], tinit=start.t_init, tfinal=start.total_steps - start.t_drop,
            deltaT=s["interval"], beta1=s["beta1"], beta2=s["beta2"], orth_reg_weight=s["orthogonality"],
            lora_alpha=s["alpha"], lora_dropout=0.0, total_step=start.total_steps, target_modules=list(start.layers),
        )  # fmt: skip
        self.model: Any = get_peft_model(loaded.model, self.config)
        self.layers: dict[str, Any] = {name: loaded.model.get_submodule(name) for name in start.layers}
        for name, layer in self.layers.items():
            layer.lora_A["default"].data.copy_(start.A[name])
            layer.lora_B["default"].data.copy_(start.B[name])
            layer.ranknum["default"].data -= 1e-5
        for name in loaded.head:
            loaded.model.get_parameter(name).requires_grad_(True)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        biases = [p for name, p in trained.items() if name.endswith("bias")]
        rest = [p for name, p in trained.items() if not name.endswith("bias")]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest, "weight_decay": wanted.training.weight_decay}, {"params": biases, "weight_decay": 0.0}]
        )

    def step(self, step: int, batches: list[dict[str, Tensor]]) -> float:
        self.model.train()
        (batch,) = batches
        # with labels, so that its regularizer is in the loss; without a task type PeftModel's own forward skips it
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


def wanted(folder: Path, settings: dict[str, Any]) -> TrainSpec:
    return slow.spec(folder, "adalora", SETTINGS | settings, steps=STEPS, weight_decay=0.1)


VARIANTS = [{}, {"interval": 1, "orthogonality": 0.3}, {"mean_rank": 1, "learning_rate": 3e-2}]


@pytest.mark.parametrize("settings", VARIANTS)
def test_masks_are_pefts(settings: dict[str, Any], folder: Path) -> None:
    spec = wanted(folder, settings)
    theirs = PeftTraining(spec, SlowAdaLoRA(spec))
    run = TrainingRun(spec)
    masks = 0
    for evaluation in slow.lockstep(run, theirs):
        ours = slow.updates(run)
        if evaluation.step - 1 == DROP:
            break
        for name, e in theirs.e().items():
            assert torch.equal(ours[name].e == 0, e == 0), f"{name}, after step {evaluation.step}"
            torch.testing.assert_close(ours[name].e.detach(), e, rtol=1e-3, atol=1e-5)
        masks += any((e == 0).any() for e in theirs.e().values())
    assert masks > 3
    assert {name: update.rank for name, update in ours.items()} == {
        name: sum(pattern) for name, pattern in patterns(theirs).items()
    }
    for name, pattern in patterns(theirs).items():
        torch.testing.assert_close(ours[name].e.detach(), theirs.e()[name][pattern], rtol=1e-3, atol=1e-5)
    assert sum(evaluation.ranks.values()) == spec.settings["mean_rank"] * len(ours)


def patterns(theirs: PeftTraining) -> dict[str, list[bool]]:
    """Layer name -> which triplets PEFT keeps at the end."""
    assert theirs.config.rank_pattern is not None
    return {name: theirs.config.rank_pattern[f"{name}.lora_E.default"] for name in theirs.layers}


def test_the_reference_is_pefts(folder: Path) -> None:
    """The two things that we compare with agree."""
    from autorank import tasks
    from autorank.tasks.data.batches import collate, epoch_batches

    spec = wanted(folder, {})
    assert spec.model is not None
    reference = SlowAdaLoRA(spec)
    theirs = PeftTraining(spec, reference)
    data = tasks.load(spec.task, spec.model)
    epoch = math.ceil(len(data.train) / 16)
    for step in range(DROP + 1):
        examples = epoch_batches(data.train.lengths, 16, 0, step // epoch)[step % epoch]
        batches = [collate(data.train, examples, data.pad_id)]
        np.testing.assert_allclose(reference.step(step, batches), theirs.step(step, batches), rtol=1e-5)
        for name, e in theirs.e().items():
            if step < DROP:
                assert torch.equal(reference.e[name] == 0, e == 0)
            kept = reference.kept[name]
            torch.testing.assert_close(reference.e[name].detach()[kept], e[kept], rtol=1e-5, atol=1e-6)
    assert patterns(theirs) == {
        name: [i in kept for i in range(reference.rank)] for name, kept in reference.kept.items()
    }
    assert set(reference.budgets) == {*range(6, DROP + 1)[::2], DROP}
