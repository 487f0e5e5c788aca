"""Full fine-tuning and BitFit against the same training in plain PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification

from autorank.methods import configure, find
from autorank.modeling import base_model
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables.conformance_runs import write_model

STEPS = 4


def params(model: nn.Module) -> tuple[int, int]:
    return find("full").adapter_params(configure("full", {}).config, model)


def test_sizes_of_published_models() -> None:
    """BERT-base has 109,482,240 parameters, 590,592 of them the pooler's; DeBERTaV3-base 183M, and no pooler."""
    import transformers as t

    config = t.DebertaV2Config(
        vocab_size=128_100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=512, type_vocab_size=0, relative_attention=True, position_buckets=256,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
    )  # fmt: skip
    with torch.device("meta"):
        bert, deberta = t.BertForSequenceClassification(t.BertConfig()), t.DebertaV2ForSequenceClassification(config)
    assert params(bert) == (109_482_240 - 590_592, 109_482_240)
    assert params(deberta) == (183_831_552, 183_831_552 + 590_592)


@pytest.mark.parametrize(("architecture", "pooler"), [("bert", True), ("roberta", False), ("deberta-v2", False)])
def test_a_pooler_counts_if_the_checkpoint_has_it(architecture: str, pooler: bool, tmp_path: Path) -> None:
    base = base_model.load(tiny_models.model(architecture, tmp_path / "model"), outputs=2)
    base_params = sum(p.numel() for name, p in base.model.named_parameters() if name not in base.head)
    assert base_params == params(base.model)[pooler]
    assert params(base_model.meta_model(str(tmp_path / "model"))) == params(base.model)


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_updates_equal_plain_adamw(method: str, tmp_path: Path) -> None:
    """AdamW with linear warm-up and decay, gradients clipped at 1, no weight decay of biases and norms."""
    write_model(tmp_path / "model", dropout=0.0)
    tiny_models.pairs_folder(tmp_path / "data", 32, 8)
    spec = TrainSpec(
        task=TaskSpec(name="pairs", data=tmp_path / "data", text=("left", "right"), label="label"),
        model=str(tmp_path / "model"), method=method, settings={"learning_rate": 1e-2},
        training=TrainingSpec(steps=STEPS, batch_size=8, eval_every=1, precision="fp32", weight_decay=0.1),
    )  # fmt: skip
    run = TrainingRun(spec, ModelCache("cpu", tmp_path / "probes"))
    run._open()
    fresh = base_model.load(str(tmp_path / "model"), outputs=2)
    fresh.reset(seed=0)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2).eval()
    reference.load_state_dict(fresh.model.state_dict())
    trained = {
        name: p
        for name, p in reference.named_parameters()
        if method == "full" or name.endswith("bias") or name.startswith("classifier")
    }
    frozen = {name: p.detach().clone() for name, p in reference.named_parameters() if name not in trained}
    for name in frozen:
        reference.get_parameter(name).requires_grad_(False)
    decayed = [p for name, p in trained.items() if not (name.endswith("bias") or "norm" in name.lower())]
    undecayed = [p for name, p in trained.items() if name.endswith("bias") or "norm" in name.lower()]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": undecayed, "weight_decay": 0.0}], lr=1e-2
    )
    warmup = run._loop.warmup_steps
    run._prepare()
    for step in range(STEPS):
        batch = collate(run._data.train, run._loop.batch(step), run._data.pad_id)
        labels = batch.pop("labels")
        F.cross_entropy(reference(**batch).logits, labels).backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (step / warmup if step < warmup else (STEPS - step) / (STEPS - warmup))
        optimizer.step()
        optimizer.zero_grad()
        run.train_step()
    parameters = dict(run._base.model.named_parameters())
    assert {name for name, p in parameters.items() if p.requires_grad} == set(trained)
    for name, parameter in reference.named_parameters():
        if not name.endswith("key.bias"):  # softmax does not depend on it
            torch.testing.assert_close(parameters[name], parameter, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(parameters[name], values) for name, values in frozen.items())
    initial = dict(fresh.model.named_parameters())
    assert not [name for name in trained if torch.equal(parameters[name], initial[name])]
