"""Every family of architectures as a sequence classifier, by tiny random models of the real architectures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.errors import AutorankError
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, adapters, base_model, target_modules
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.tasks.splits.tokenized import Split
from autorank.training.run import TrainingRun
from tests import families, tiny_models

HEADS = {
    "bert": ["classifier"],
    "roberta": ["classifier"],
    "electra": ["classifier"],
    "deberta-v2": ["classifier", "pooler"],
    "distilbert": ["classifier", "pre_classifier"],
    "modernbert": ["classifier", "head.dense", "head.norm"],
    "gpt2": ["score"],
    "llama": ["score"],
    "mistral": ["score"],
    "qwen2": ["score"],
    "qwen3": ["score"],
    "bart": ["classification_head"],
    "t5": ["classification_head"],
    "t5-gated": ["classification_head"],
}
each_family = pytest.mark.parametrize("family_model", families.FAMILIES, indirect=True)


@dataclass
class FamilyModel:
    """The model of a family: its directory and the loaded base."""

    family: str
    folder: Path
    base: base_model.BaseModel


@pytest.fixture(scope="module")
def family_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FamilyModel:
    folder = tmp_path_factory.mktemp(request.param)
    loaded = base_model.load(families.model(request.param, folder / "model"), outputs=2)
    loaded.model.config.pad_token_id = 0
    return FamilyModel(request.param, folder, loaded)


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "family_model" in request.fixturenames:
        request.getfixturevalue("family_model").base.reset(seed=0)


def batch(rows: list[int]) -> dict[str, Tensor]:
    """Texts with these numbers as the training loop batches them, padded on the right."""
    texts = [[2, *range(start, start + length), 3] for start, length in ((5, 3), (20, 7), (40, 5))]
    offsets = np.cumsum([0, *map(len, texts)])
    split = Split(np.array(list(chain(*texts))), None, offsets, np.zeros(len(texts), np.int64))
    inputs = collate(split, np.array(rows), pad_id=0)
    del inputs["labels"]
    return inputs


def adapt(family_model: FamilyModel, dropout: float = 0.0) -> None:
    """Attach nonzero updates of mixed ranks to all layers."""
    generator = torch.Generator().manual_seed(0)
    for i, (name, layer) in enumerate(target_modules.find(family_model.base.model, "all-linear").items()):
        update = LowRankUpdate.lora(*target_modules.features(layer), rank=1 + i % 3, alpha=8, generator=generator)
        update.B.data += 0.1 * torch.randn(update.B.shape, generator=generator)
        adapters.attach(family_model.base.model, name, update, dropout)


@torch.no_grad()
def logits(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model.eval()(**inputs).logits


def gradients(family_model: FamilyModel) -> dict[str, Tensor]:
    """Gradients of a training step, including dropout."""
    torch.manual_seed(3)
    model = family_model.base.model.train()
    F.cross_entropy(model(**batch([0, 1, 2])).logits, torch.tensor([0, 1, 0])).backward()
    result = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return result


@each_family
def test_the_head_is_new_and_trains_alone(family_model: FamilyModel) -> None:
    assert family_model.base.head_modules == HEADS[family_model.family]
    assert family_model.base.new == set(family_model.base.head)
    assert {name for name, p in family_model.base.model.named_parameters() if p.requires_grad} == family_model.base.new
    first = logits(family_model.base.model, batch([0]))
    family_model.base.reset(seed=1)
    assert not torch.allclose(logits(family_model.base.model, batch([0])), first)
    family_model.base.reset(seed=0)
    assert torch.equal(logits(family_model.base.model, batch([0])), first)


@each_family
def test_padding_changes_nothing(family_model: FamilyModel) -> None:
    together = logits(family_model.base.model, batch([0, 1, 2]))
    alone = torch.cat([logits(family_model.base.model, batch([i])) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert (alone[0] - alone[1]).abs().max() > 1e-4  # but the text does


@each_family
def test_attached_updates_train_and_are_removed_completely(family_model: FamilyModel) -> None:
    before = {name: p.clone() for name, p in family_model.base.model.named_parameters()}
    adapt(family_model, dropout=0.1)
    trained = {name for name, p in family_model.base.model.named_parameters() if p.requires_grad}
    grads = gradients(family_model)
    assert set(grads) == trained and all(values.any() for values in grads.values())
    for parameter in family_model.base.model.parameters():
        if parameter.requires_grad:
            parameter.data += 1
    family_model.base.reset(seed=0)
    after = dict(family_model.base.model.named_parameters())
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)


@each_family
def test_exports_give_the_same_logits(family_model: FamilyModel, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    adapt(family_model)
    inputs = batch([0, 1, 2])
    expected = logits(family_model.base.model, inputs)
    model = str(family_model.folder / "model")
    adapter_file.save(tmp_path / "adapter", family_model.base, adapter_file.Origin(model, 2, ("no", "yes"), 0))
    write_merged(tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged, inputs), expected, rtol=0, atol=1e-5)
    write_peft(tmp_path / "adapter", tmp_path / "peft")
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2, pad_token_id=0)
    wrapped = PeftModel.from_pretrained(base, tmp_path / "peft")
    torch.testing.assert_close(logits(wrapped, inputs), expected, rtol=0, atol=1e-5)
    layers = {name.removesuffix(".lora_A") for name, _ in base.named_modules() if name.endswith(".lora_A")}
    assert layers == set(adapters.adapted(family_model.base.model))


@each_family
def test_gradient_checkpointing_gives_the_same_gradients(family_model: FamilyModel) -> None:
    adapt(family_model, dropout=0.1)
    passes: list[bool] = []
    for layer in adapters.adapted(family_model.base.model).values():
        layer.update.register_forward_hook(lambda *_: passes.append(gradient_checkpointing.recomputing()))
    expected = gradients(family_model)
    pass_count = len(passes)
    undo = gradient_checkpointing.enable(family_model.base.model)
    recomputed = gradients(family_model)
    undo()
    # activations were recomputed, and this is reported
    assert passes.count(False) == 2 * pass_count and passes.count(True) > pass_count / 2
    assert list(recomputed) == list(expected)
    for name, values in expected.items():
        scale = float(values.abs().max())
        torch.testing.assert_close(recomputed[name], values, rtol=0, atol=1e-5 * scale, msg=name)
    del passes[:]
    rerun = gradients(family_model)
    assert len(passes) == pass_count and all(torch.equal(rerun[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.usefixtures("own_cache")
def test_cut_texts_keep_their_end(family: str, tmp_path: Path) -> None:
    families.model(family, tmp_path / "model")
    tiny_models.pairs_folder(tmp_path, 20)
    task = TaskSpec(name="pairs", data=tmp_path, text=("left", "right"), label="label", max_length=11)
    spec = TrainSpec(
        task=task, model=str(tmp_path / "model"), method="lora", settings={"targets": "attention-qv"},
        training=TrainingSpec(steps=2, batch_size=8),
    )  # fmt: skip
    run = TrainingRun(spec)
    assert next(run).step == 2
    assert run._data.train.lengths.max() == 11
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"left": "w1", "right": "w2 [SEP] w3", "label": 0}\n')
    with pytest.raises(AutorankError, match=f"Text 21 of 'train' has 3 end tokens.*the first has 2. {family} models"):
        next(TrainingRun(spec))


def test_a_model_without_a_text_classifier_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPConfig, ViTConfig

    ViTConfig().save_pretrained(tmp_path / "vit")
    CLIPConfig().save_pretrained(tmp_path / "clip")
    for kind in ("vit", "clip"):
        for load in (lambda folder: base_model.load(folder, 2), base_model.meta_model):
            with pytest.raises(AutorankError, match=f"type '{kind}'.*SequenceClassification.*task needs.*BERT"):
                load(str(tmp_path / kind))


def test_half_of_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5EncoderModel

    T5EncoderModel(families.config("t5")).save_pretrained(tmp_path)
    with pytest.raises(AutorankError, match="contains only an encoder"):
        base_model.load(str(tmp_path), 2)
