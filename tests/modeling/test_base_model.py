"""Heads, and resetting the base model to its loaded state."""

from pathlib import Path

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import base_model
from tests import tiny_models


@pytest.mark.parametrize(
    ("architecture", "modules"),
    [("bert", ["classifier"]), ("roberta", ["classifier"]), ("deberta-v2", ["classifier", "pooler"]),
     ("llama", ["score"])],
)  # fmt: skip
def test_new_heads_train_and_nothing_else(architecture: str, modules: list[str], tmp_path: Path) -> None:
    loaded = base_model.load(tiny_models.model(architecture, tmp_path / "m"), outputs=3)
    assert loaded.head_modules == modules
    trained = {name for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert trained == set(loaded.head)


def test_reset_equals_a_fresh_load(tmp_path: Path) -> None:
    folder = tiny_models.model("roberta", tmp_path / "m")
    used, fresh = base_model.load(folder, 2), base_model.load(folder, 2)
    used.unfreeze(["roberta.encoder.layer.0.output.LayerNorm.weight"])
    for parameter in used.model.parameters():
        if parameter.requires_grad:
            parameter.data += 1
    used.reset(seed=5), fresh.reset(seed=5)
    for (name, actual), expected in zip(used.model.named_parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(actual, expected) and actual.requires_grad == expected.requires_grad, name
    fresh.reset(seed=6)
    assert not torch.equal(used.model.classifier.dense.weight, fresh.model.classifier.dense.weight)


def test_a_trained_classifier_of_the_checkpoint_is_kept(tmp_path: Path) -> None:
    loaded = base_model.load(tiny_models.model("roberta", tmp_path / "m"), 2)
    loaded.model.save_pretrained(tmp_path / "tuned")
    tiny_models.tokenizer(tmp_path / "tuned")
    reloaded = base_model.load(str(tmp_path / "tuned"), 2)
    assert not reloaded.new and reloaded.head_modules == ["classifier"]
    reloaded.reset(seed=9)
    assert torch.equal(reloaded.model.classifier.dense.weight, loaded.model.classifier.dense.weight)
    assert base_model.load(str(tmp_path / "tuned"), 5).new  # another number of outputs: a new head


def test_half_precision_base_trains_its_head_in_float32(tmp_path: Path) -> None:
    loaded = base_model.load(tiny_models.model("bert", tmp_path / "m"), 2, dtype=torch.bfloat16)
    dtypes = {p.requires_grad: p.dtype for p in loaded.model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


@pytest.mark.parametrize("missing", ["layer.1.", "word_embeddings"])
def test_incomplete_weights_are_refused(missing: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_models.model("bert", tmp_path / "m")
    file = Path(folder) / "model.safetensors"
    incomplete = {name: values for name, values in load_file(file).items() if missing not in name}
    save_file(incomplete, file, {"format": "pt"})
    with pytest.raises(AutorankError, match=r"lacks weights of its layers \(\d+, including bert\."):
        base_model.load(folder, 2)


def test_weights_of_other_sizes_are_refused_outside_the_head(tmp_path: Path) -> None:
    folder = tiny_models.model("bert", tmp_path / "m")
    base_model.load(folder, 2).model.save_pretrained(folder)
    assert base_model.load(folder, 5).replaces_head
    tiny_models.update_config(Path(folder), vocab_size=50)
    with pytest.raises(AutorankError, match=r"\(1, including bert\..*: \[64, 16\], but \[50, 16\] by config.json\)"):
        base_model.load(folder, 2)
